"""A release: sdist and wheel are built, and the demo's data path runs from an empty environment."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILD = "from setuptools import build_meta; print(build_meta.build_sdist({!r}))"
SMALL = (
    *("minima.count=2", "minima.epochs=1", "data.subset=60"),
    *("paths.epochs=1", "paths.points=4", "saddles.refine='off'"),
)


def called(*words, folder):
    """The output of a program that sees neither this checkout nor the variables that point to it."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    said = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    return said.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The scripts of an environment with the wheel alone; its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("release")
    sdist = called(sys.executable, "-c", BUILD.format(str(folder)), folder=ROOT).split()[-1]
    with tarfile.open(folder / sdist) as archive:
        archive.extractall(folder, filter="data")
    source = folder / sdist.removesuffix(".tar.gz")
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    called(
        *pip,
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        folder,
        source,
        folder=folder,
    )
    (wheel,) = folder.glob("toscore-*.whl")
    venv.create(folder / "empty", with_pip=False)
    python = folder / "empty" / "bin" / "python"
    called(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel, folder=folder)
    # A path file adds the folder of the dependencies, and runs none of the path files in it.
    (packages,) = (folder / "empty" / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "empty" / "bin"


@pytest.mark.slow
def test_the_demo_runs_from_the_wheel(installed, tmp_path):
    """Data, network, minima, paths, barcode and report of the demo, cut down, outside the repository."""
    where = called(
        installed / "python",
        "-c",
        "import orchestrator; print(orchestrator.__file__)",
        folder=tmp_path,
    )
    assert where.startswith(str(installed.parent))
    settings = [word for setting in SMALL for word in ("--set", setting)]
    demo = ROOT / "examples" / "demo.yaml"
    said = called(installed / "toscore", "run", demo, "--in-process", *settings, folder=tmp_path)
    assert "TO-score" in said
    (run,) = (tmp_path / "runs").iterdir()
    called(installed / "toscore", "report", run, folder=tmp_path)
    assert len(called(installed / "toscore", "studies", folder=tmp_path).splitlines()) > 5
