"""Figure of a sweep: TO-score and mean bar length against the value of a key."""

import math
from collections.abc import Sequence
from functools import partial

from matplotlib.figure import Figure as Drawing

from orchestrator.report.figure import Figure, table_of
from orchestrator.report.style import FIRST, NARROW, SECOND, WIDE, log_axis, number, spans_decades

Row = tuple[float, float | None, float | None, float]
"""Value of the key, TO-score, mean length of the finite bars, lowest loss."""


def sweep_figure(key: str, rows: Sequence[Row]) -> Figure | None:
    """TO-score and mean bar length against the values of a key; None for fewer than two values.

    Args:
        key: name of the key of the run file.
        rows: one for each run, in any order.
    """
    shown = sorted(row for row in rows if math.isfinite(row[0]))
    if len(shown) < 2:
        return None
    scores = "; ".join(f"{number(row[0])}: {_text(row[1])}" for row in shown)
    return Figure(
        name="sweep",
        title=f"Barcode against {key}",
        caption=(
            f"TO-score (dots) and mean length of the finite bars (triangles), elder rule, against {key}. "
            "Each run starts from the minima and paths of the previous run, so the curve follows one set "
            "of minima."
        ),
        alt=f"TO-score against {key}. {scores}.",
        table=table_of((key, "TO-score", "mean bar", "lowest loss"), shown),
        draw=partial(_draw, key, shown),
    )


def _text(score: float | None) -> str:
    return "not connected" if score is None else number(score)


def _draw(key: str, rows: Sequence[Row], wide: bool) -> Drawing:
    figure = Drawing(figsize=(WIDE, 3.0) if wide else (NARROW, 2.8))
    ax = figure.subplots()
    values = [row[0] for row in rows]
    for column, mark, colour, label in (
        (1, "o-", FIRST, "TO-score"),
        (2, "^--", SECOND, "mean bar"),
    ):
        heights = [math.nan if row[column] is None else float(row[column] or 0) for row in rows]
        ax.plot(values, heights, mark, color=colour, ms=6, lw=1.2, label=label)
    if spans_decades([value for value in values if value > 0]) and min(values) > 0:
        log_axis(ax, "x")
    positive = [v for row in rows for v in row[1:3] if v]
    if positive and spans_decades(positive):
        ax.set_yscale("symlog", linthresh=min(positive))
    ax.set_xlabel(key)
    ax.set_ylabel("training loss")
    ax.grid()
    ax.set_axisbelow(True)
    ax.margins(0.08)
    ax.legend()
    return figure
