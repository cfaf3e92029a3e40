"""Render figures, tables and facts as one self-contained HTML file, without scripts or fonts."""

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
"""Largest number of rows of a table that the page shows; its CSV file has all rows."""

EMBEDDED_BYTES = 1 << 20
"""Largest size in bytes of a CSV that is embedded in the page as a download. A larger CSV would make the page
slow to load; it is only a file beside the page."""

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Number:
    """One of the few numbers at the top of a page, with its label and a note."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class NamedTable:
    """A table with the stem of its file name and its title."""

    name: str
    title: str
    table: Table


@dataclass(frozen=True)
class Listing:
    """A block of preformatted text with its title."""

    title: str
    text: str


@dataclass(frozen=True)
class Section:
    """A section of a page.

    Attributes:
        id: HTML id, unique on the page.
        title: heading.
        text: paragraphs.
        figures, tables, listings: content of the section after its text.
        facts: name → value.
    """

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
        title, subtitle: heading of the page.
        missing: a warning about incomplete results; empty if there is none.
        numbers: the numbers at the top.
        sections: the sections of the page.
        summary: sentences that state the result and can be quoted.
        lead: the figure below the summary, above the numbers; None for none.
    """

    title: str
    subtitle: str
    missing: str
    numbers: Sequence[Number]
    sections: Sequence[Section]
    summary: Sequence[str] = ()
    lead: Figure | None = None


def render(page: Page) -> str:
    """Render a page as HTML."""
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
        lead=figure_values(page.lead) if page.lead else None,
        numbers=page.numbers,
        sections=sections,
    )


def render_template(name: str, **values: Any) -> str:
    """Render a template of `TEMPLATES` with these values, which are escaped, and the colours of figures."""
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
    """The values from which `parts.html` shows a figure.

    Args:
        figure: the figure.
        files: whether the files of the figure lie beside the page, so that the page can link to them.
    """
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
    """A `data:` URL with the table as CSV; empty if it is larger than `EMBEDDED_BYTES`."""
    data = table.to_csv().encode()
    if len(data) > EMBEDDED_BYTES:
        return ""
    return "data:text/csv;charset=utf-8;base64," + base64.b64encode(data).decode()


def shown(table: Table) -> dict[str, Any]:
    """The values from which `parts.html` shows a table: its first `SHOWN_ROWS` rows as text."""
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
