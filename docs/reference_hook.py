"""Fills the reference of `topo_core` with all that it exports, so that no name can be forgotten."""

import ast
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1] / "topo_core"
PLACE = "<!-- every name of topo_core -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for each page."""
    return markdown.replace(PLACE, reference()) if PLACE in markdown else markdown


def reference() -> str:
    """A heading a module, in the words of its first line, and below it what is exported from it."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    parts = []
    for node in ast.walk(tree):  # those that wait for torch are indented
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("topo_core."):
            parts.append(f"## {_title(node.module)}")
            parts += [f"::: {node.module}.{alias.name}" for alias in node.names]
    return "\n\n".join(parts)


def _title(module: str) -> str:
    file = PACKAGE.parent / f"{module.replace('.', '/')}.py"
    text = ast.get_docstring(ast.parse(file.read_text())) or module
    return text.splitlines()[0].rstrip(".:")
