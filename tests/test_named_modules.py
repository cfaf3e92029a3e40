"""Modules, objects and files named in docstrings, comments and documents exist: a move renames them there."""

import ast
import functools
import importlib
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("topo_core", "workers", "orchestrator", "tests", "deploy")
SOURCES = sorted(file for name in PACKAGES for file in (ROOT / name).rglob("*.py"))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
DOTTED = re.compile(rf"\b(?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+")
FILE = re.compile(r"[\w./-]*\w\.(?:py|md)\b")
OF_USERS = {"yaml.py", "usercode.py"}
"""Files that texts name as examples of a user's own."""


def docstrings_and_comments(file):
    """Every string that stands alone as a statement, and every comment, of a Python file."""
    text = file.read_text()
    for node in ast.walk(ast.parse(text)):
        value = node.value if isinstance(node, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.value
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


@functools.cache
def texts():
    """(file, text) of all sources and documents."""
    sources = [file for file in SOURCES if file != Path(__file__)]
    return [
        *((file, text) for file in sources for text in docstrings_and_comments(file)),
        *((file, file.read_text()) for file in DOCUMENTS),
    ]


def exists(dotted):
    """Whether the longest module at the start of a dotted name has the attributes that follow."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            if attribute in getattr(value, "__annotations__", {}):
                return True
            if not hasattr(value, attribute):
                return False
            value = getattr(value, attribute)
        return True
    return False


def is_file(name, beside):
    """Whether a path exists from the root or beside the text, or a bare name anywhere in the project."""
    if "/" in name:
        return (ROOT / name).exists() or (beside / name).exists()
    return name in OF_USERS or name in FILES


FILES = {
    file.name for folder in (*PACKAGES, "docs", "examples") for file in (ROOT / folder).rglob("*")
} | {file.name for file in ROOT.iterdir()}


def test_dotted_names_lead_to_a_module_or_to_an_object_in_it():
    """`topo_core.…`, `workers.…` and the others name what can be imported."""
    named = {
        (found, str(file.relative_to(ROOT)))
        for file, text in texts()
        for found in DOTTED.findall(text)
        if not found.endswith((".py", ".md"))
    }
    known = {name: exists(name) for name in {name for name, _ in named}}
    assert len(known) > 20
    assert sorted(pair for pair in named if not known[pair[0]]) == []


def test_files_that_texts_name_exist():
    """`….py` and `….md` are files of the project, or written by a block of the documents."""
    written = {
        name
        for file in DOCUMENTS
        for name in re.findall(r"^# ([\w.-]+\.py)$", file.read_text(), flags=re.MULTILINE)
    }
    missing = sorted(
        (name, str(file.relative_to(ROOT)))
        for file, text in texts()
        for name in FILE.findall(text)
        if name not in written and not is_file(name, file.parent)
    )
    assert missing == []


@pytest.mark.parametrize("name", ["topo_core.no_such_room", "topo_core.paths.solver.PathSolvers"])
def test_a_wrong_name_is_noticed(name):
    """A module that moved, and an object that was renamed."""
    assert not exists(name)
    assert exists("topo_core.paths.solver.PathSolver")
