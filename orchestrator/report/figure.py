"""A figure of a report: its drawing, caption, alternative text and data."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any

from matplotlib.figure import Figure as Drawing

from orchestrator.report.style import VARIABLES, styled
from orchestrator.telemetry.json_values import finite_or_none

Cell = str | int | float | bool | None


@dataclass(frozen=True)
class Table:
    """A table of named columns of equal length.

    Raises:
        ValueError: the columns have different lengths.
    """

    columns: Mapping[str, Sequence[Cell]]

    def __post_init__(self) -> None:
        if len({len(values) for values in self.columns.values()}) > 1:
            lengths = {name: len(values) for name, values in self.columns.items()}
            raise ValueError(f"columns of different lengths: {lengths}")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def rows(self, most: int | None = None) -> Iterator[tuple[Cell, ...]]:
        """The first `most` rows, or all."""
        columns = [values[:most] for values in self.columns.values()]
        return zip(*columns, strict=True)

    def to_csv(self) -> str:
        """CSV with a header; floats are written so that they are read back exactly."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows())
        return out.getvalue()

    def to_json(self) -> str:
        """A JSON list with one object for each row; infinities and NaN are null."""
        names = tuple(self.columns)
        rows = [
            {name: finite_or_none(cell) for name, cell in zip(names, row, strict=True)}
            for row in self.rows()
        ]
        return json.dumps(rows, allow_nan=False)


def table_of(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Table:
    """A table from the names of its columns and its rows."""
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    return Table({name: list(column) for name, column in zip(names, columns, strict=True)})


@dataclass(frozen=True)
class Figure:
    """One figure of a report.

    Attributes:
        name: stem of its file names.
        title: title, a few words.
        caption: says what is shown and how to read it.
        alt: alternative text for readers who cannot see the drawing.
        table: the data of the figure.
        draw: returns the drawing, for a wide page (True) or a narrow one (False).
    """

    name: str
    title: str
    caption: str
    alt: str
    table: Table
    draw: Callable[[bool], Drawing]

    def svg(self, *, wide: bool = True) -> str:
        """An `<svg>` element with CSS variables of the page as colours and ids unique on the page."""
        prefix = f"{self.name}-{'wide' if wide else 'narrow'}"
        with styled():
            return _inline(self._wide if wide else _settled(self.draw(False)), prefix, self.alt)

    def files(self) -> dict[str, bytes]:
        """PNG and PDF of the wide drawing, and CSV and JSON of the data: file name → bytes."""
        files = {
            f"{self.name}.csv": self.table.to_csv().encode(),
            f"{self.name}.json": self.table.to_json().encode(),
        }
        with styled():
            for suffix, metadata in _UNDATED.items():
                sink = io.BytesIO()
                self._wide.savefig(
                    sink,
                    format=suffix,
                    facecolor="white",
                    metadata={"Title": self.title, **metadata},
                )
                files[f"{self.name}.{suffix}"] = sink.getvalue()
        return files

    @cached_property
    def _wide(self) -> Drawing:
        return _settled(self.draw(True))


def _settled(drawing: Drawing) -> Drawing:
    """Compute the layout of a drawing and fix it, so that it is computed once for all formats; it is slow."""
    drawing.draw_without_rendering()
    drawing.set_layout_engine("none")
    return drawing


_UNDATED: Mapping[str, Mapping[str, Any]] = {"png": {}, "pdf": {"CreationDate": None}}
"""File format → metadata without dates, so that the same run gives the same bytes."""


def _inline(drawing: Drawing, prefix: str, alt: str) -> str:
    sink = io.StringIO()
    drawing.savefig(sink, format="svg", metadata={"Date": None, "Creator": None})
    text = sink.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    _, body = text.split(">", 1)
    width, height = (72 * inches for inches in drawing.get_size_inches())
    # Ids must be unique on a page with several drawings, and Matplotlib's ids depend on earlier drawings.
    ids = dict.fromkeys(re.findall(r'\bid="([^"]+)"', body))
    own = {name: f"{prefix}-{number}" for number, name in enumerate(ids)}
    body = re.sub(r'\bid="([^"]+)"', lambda m: f'id="{own[m[1]]}"', body)
    body = re.sub(r'href="#([^"]+)"', lambda m: f'href="#{own[m[1]]}"', body)
    body = re.sub(r"url\(#([^)]+)\)", lambda m: f"url(#{own[m[1]]})", body)
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width:g} {height:g}" style="max-width: {_ENLARGED * width:.0f}px" '
        f'role="img" aria-label="{escape(alt)}">{body}'
    )


_ENLARGED = 1.42
"""Largest scale of a drawing, in CSS pixels per point: its 9-point text is then as large as the text of the
page."""
