"""What an installed package needs is declared: a file that git has and the wheel lacks is found here."""

import tomllib
from pathlib import Path

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
    assert len(list(filter(lambda f: f.suffix == ".yaml", beside))) == 9
    assert beside <= declared
