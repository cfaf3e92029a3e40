"""Figures, tables and facts as one HTML file that needs nothing else: no network, no script, no fonts."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from orchestrator.report.figure import Cell, Figure, Table
from orchestrator.report.style import DARK, VARIABLES

SHOWN_ROWS = 200
"""Rows of a table that are in the page; all of them are in its CSV."""

EMBEDDED_BYTES = 1 << 20
"""CSV up to this size is in the page too, so that the page alone is enough."""

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Number:
    """One of the few numbers at the top."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class NamedTable:
    name: str
    title: str
    table: Table


@dataclass(frozen=True)
class Listing:
    title: str
    text: str


@dataclass(frozen=True)
class Section:
    id: str
    title: str
    text: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[NamedTable] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    listings: Sequence[Listing] = ()


@dataclass(frozen=True)
class Page:
    """The content of a page.

    Attributes:
        missing: a warning about incomplete results; empty where there is none.
        summary: sentences that a reader can quote.
    """

    title: str
    subtitle: str
    missing: str
    numbers: Sequence[Number]
    sections: Sequence[Section]
    summary: Sequence[str] = ()


def render(page: Page) -> str:
    """The page as HTML."""
    sections = [
        {
            "id": section.id,
            "title": section.title,
            "text": section.text,
            "figures": [figure_values(figure) for figure in section.figures],
            "tables": [
                {
                    "name": item.name,
                    "title": item.title,
                    "shown": shown(item.table),
                    "download": _download(item.table),
                }
                for item in section.tables
            ],
            "facts": section.facts,
            "listings": section.listings,
        }
        for section in page.sections
    ]
    return render_template(
        "report.html",
        title=page.title,
        subtitle=page.subtitle,
        missing=page.missing,
        summary=page.summary,
        numbers=page.numbers,
        sections=sections,
    )


def render_template(name: str, **values: Any) -> str:
    """A template of this folder, with the colours of figures; values are escaped."""
    return _environment().get_template(name).render(colours=_COLOURS, **values)


_COLOURS = {
    "light": {variable: colour for colour, variable in VARIABLES.items()},
    "dark": {variable: DARK[colour] for colour, variable in VARIABLES.items()},
}


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def figure_values(figure: Figure, *, files: bool = True) -> dict[str, Any]:
    """What `parts.html` shows a figure with; `files` says whether it lies in files beside the page."""
    return {
        "files": files,
        "name": figure.name,
        "title": figure.title,
        "caption": figure.caption,
        "wide": figure.svg(wide=True),
        "narrow": figure.svg(wide=False),
        "shown": shown(figure.table),
        "download": _download(figure.table),
    }


def _download(table: Table) -> str:
    """The whole table as a link that carries it; empty where it is too large for that."""
    data = table.to_csv().encode()
    if len(data) > EMBEDDED_BYTES:
        return ""
    return "data:text/csv;charset=utf-8;base64," + base64.b64encode(data).decode()


def shown(table: Table) -> dict[str, Any]:
    """What `parts.html` shows a table with: its first rows, in words."""
    columns = []
    for name, values in table.columns.items():
        texts = [v for v in values[:SHOWN_ROWS] if isinstance(v, str)]
        columns.append(
            {"name": name, "text": bool(texts), "long": any(len(text) > 40 for text in texts)}
        )
    rows = [[_cell(cell) for cell in row] for row in table.rows(SHOWN_ROWS)]
    return {"columns": columns, "rows": rows, "total": len(table)}


def _cell(cell: Cell) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, float):
        if math.isnan(cell):
            return "–"
        return f"{cell:.6g}" if math.isfinite(cell) else "∞" if cell > 0 else "−∞"
    return str(cell)
