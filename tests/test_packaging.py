"""What an installed package needs is declared: a file that git has and the wheel lacks is found here."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from setuptools import find_packages

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


ALONE = """
import importlib, pkgutil, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {others}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
import topo_core
for module in pkgutil.walk_packages(topo_core.__path__, "topo_core."):
    importlib.import_module(module.name)
print(topo_core.barcode([0.0, 1.0], {{(0, 1): 2.0}}).finite[0].death)
"""


def test_the_mathematics_needs_torch_numpy_and_scipy_alone():
    """Every module of topo_core is imported, and a barcode computed, without any other dependency."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {entry.partition(">")[0].partition("[")[0] for entry in project["dependencies"]}
    others = declared - {"torch", "numpy", "scipy"} | {"yaml", "sklearn"}
    said = subprocess.run(
        [sys.executable, "-c", ALONE.format(others=others)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.stdout.strip() == "2.0", said.stderr


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
