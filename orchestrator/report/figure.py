"""A figure: what it shows in words, in numbers and drawn, for a page, for paper and for programs."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any

from matplotlib.figure import Figure as Drawing

from orchestrator.report.style import VARIABLES, styled

Cell = str | int | float | bool | None


@dataclass(frozen=True)
class Table:
    """Columns of equal length; what is drawn is read from them."""

    columns: Mapping[str, Sequence[Cell]]

    def __post_init__(self) -> None:
        if len({len(values) for values in self.columns.values()}) > 1:
            lengths = {name: len(values) for name, values in self.columns.items()}
            raise ValueError(f"columns of different lengths: {lengths}")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def rows(self, most: int | None = None) -> Iterator[tuple[Cell, ...]]:
        columns = [values[:most] for values in self.columns.values()]
        return zip(*columns, strict=True)

    def to_csv(self) -> str:
        """With a header; floats so that they are read back to the same bits."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows())
        return out.getvalue()

    def to_json(self) -> str:
        """A list of objects; what is infinite or not a number is null."""
        names = tuple(self.columns)
        rows = [
            {name: _finite(cell) for name, cell in zip(names, row, strict=True)}
            for row in self.rows()
        ]
        return json.dumps(rows, allow_nan=False)


def _finite(cell: Cell) -> Cell:
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell


@dataclass(frozen=True)
class Figure:
    """One figure of a report.

    Attributes:
        name: of its files.
        title: a few words.
        caption: what is shown and how to read it.
        alt: what there is to see, for who cannot see it.
        table: its data.
        draw: draws it; the argument says whether for a wide page or a narrow one.
    """

    name: str
    title: str
    caption: str
    alt: str
    table: Table
    draw: Callable[[bool], Drawing]

    def svg(self, *, wide: bool = True) -> str:
        """An `<svg>` element whose colours follow the page, with ids that are its own."""
        prefix = f"{self.name}-{'wide' if wide else 'narrow'}"
        with styled():
            return _inline(self._wide if wide else _settled(self.draw(False)), prefix, self.alt)

    def files(self) -> dict[str, bytes]:
        """The same as PNG and PDF for a paper, and its data, by file name."""
        found = {
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
                found[f"{self.name}.{suffix}"] = sink.getvalue()
        return found

    @cached_property
    def _wide(self) -> Drawing:
        return _settled(self.draw(True))


def _settled(drawing: Drawing) -> Drawing:
    """With everything in its place; finding the places takes most of the time of a drawing."""
    drawing.draw_without_rendering()
    drawing.set_layout_engine("none")
    return drawing


_UNDATED: Mapping[str, Mapping[str, Any]] = {"png": {}, "pdf": {"CreationDate": None}}
"""The same run gives the same bytes."""


def _inline(drawing: Drawing, prefix: str, alt: str) -> str:
    sink = io.StringIO()
    drawing.savefig(sink, format="svg", metadata={"Date": None, "Creator": None})
    text = sink.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    _, body = text.split(">", 1)
    width, height = (72 * inches for inches in drawing.get_size_inches())
    # Several drawings share a page, and their ids must not. Matplotlib's depend on what was drawn before.
    ids = dict.fromkeys(re.findall(r'\bid="([^"]+)"', body))
    own = {name: f"{prefix}-{place}" for place, name in enumerate(ids)}
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
"""CSS pixels a point at most: letters of 9 points are then as large as the text beside them."""
