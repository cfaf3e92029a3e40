"""Figure of the TO-score against depth, width and number of parameters, as in Figure 4 of the paper."""

import math
from collections import Counter
from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D

from orchestrator.report.comparison.compared_runs import Compared
from orchestrator.report.figure import Figure, table_of
from orchestrator.report.style import (
    FIRST,
    MUTED,
    NARROW,
    SECOND,
    WIDE,
    log_axis,
    number,
    spans_decades,
)

SIZES = (("depth", "hidden layers"), ("width", "units or channels"), ("parameters", "parameters"))
"""Attribute of `Compared`, and label of the axis."""


def scores_figure(runs: Sequence[Compared]) -> Figure | None:
    """TO-score against each size that differs between the runs; None if no size differs."""
    panels = []
    for name, label in SIZES:
        known = [item for item in runs if getattr(item, name) is not None]
        if len({getattr(item, name) for item in known}) > 1:
            panels.append((name, label, known))
    if not panels:
        return None
    rows = [
        (
            item.label,
            item.depth,
            item.width,
            item.parameters,
            item.score,
            item.landscape.to_scores["direct"],
            min(item.landscape.losses.values()),
            _highest_death(item),
        )
        for item in runs
    ]
    names = (
        "run",
        "depth",
        "width",
        "parameters",
        "TO-score",
        "TO-score (direct)",
        "lowest loss",
        "highest pass of the barcode",
    )
    against = " and ".join(label for _, label, _ in panels)
    scores = "; ".join(f"{item.label}: {number(item.score)}" for item in runs)
    return Figure(
        name="score-against-size",
        title="TO-score and size",
        caption=(
            f"TO-score (dots) and the highest pass of the barcode (triangles) against {against}, for the "
            "runs whose network has that size by name, options or count. Runs that differ in more than "
            "one thing differ in all of them: read a panel only for runs that are alike otherwise."
        ),
        alt=f"TO-score against {against}. {scores}.",
        table=table_of(names, rows),
        draw=partial(_draw_scores, panels),
    )


def _highest_death(item: Compared) -> float:
    return max((bar.death for bar in item.landscape.barcodes["elder"].finite), default=math.nan)


def _draw_scores(panels: list[tuple[str, str, list[Compared]]], wide: bool) -> Drawing:
    rows, columns = (1, len(panels)) if wide else (len(panels), 1)
    size = (WIDE, 3.0) if wide else (NARROW, 2.6 * len(panels))
    figure = Drawing(figsize=size)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    values = [v for _, _, known in panels for i in known for v in (i.score, _highest_death(i))]
    log = spans_decades([v for v in values if v > 0])
    labels = dict.fromkeys(item.label for _, _, known in panels for item in known)
    numbers = {label: n for n, label in enumerate(labels, 1)} if len(labels) <= 10 else {}
    for ax, (name, label, known) in zip(axes, panels, strict=True):
        shown = sorted(known, key=lambda item: (getattr(item, name), item.label))
        sizes = [getattr(item, name) for item in shown]
        for mark, colour, title, what in (
            ("o", FIRST, "TO-score", lambda item: item.score),
            ("^", SECOND, "highest pass", _highest_death),
        ):
            heights = [what(item) if math.isfinite(what(item)) else math.nan for item in shown]
            ax.plot(sizes, heights, mark, color=colour, ms=6, alpha=0.85, label=title)
        if numbers:
            _write_numbers(ax, [(getattr(i, name), i.score, numbers[i.label]) for i in shown])
        if spans_decades([float(s) for s in sizes]):
            log_axis(ax, "x")
        elif all(isinstance(s, int) for s in sizes) and max(sizes) <= 20:
            ax.set_xticks(sorted(set(sizes)))
        ax.set_xlabel(label)
        ax.grid()
        ax.set_axisbelow(True)
        ax.margins(0.12)
    if log:
        log_axis(axes[0], "y")
    axes[0].set_ylabel("training loss")
    axes[0].legend()
    if numbers:
        keys = [Line2D([], [], ls="", marker=f"${n}$", color=MUTED) for n in numbers.values()]
        figure.legend(keys, numbers, loc="outside lower center", ncols=4 if wide else 2, fontsize=7)
    return figure


def _write_numbers(ax: Axes, dots: list[tuple[float, float, int]]) -> None:
    """Write the number of a run beside each dot, alternating left and right among dots of equal size.

    The names of runs would overlap, because many runs of a study have the same size.

    Args:
        ax: axes to draw into.
        dots: triples (size, score, number of the run).
    """
    at_size: Counter[float] = Counter()
    for size, score, number_of_run in sorted(dots):
        if math.isfinite(score):
            side = -1 if at_size[size] % 2 else 1
            at_size[size] += 1
            ax.annotate(
                str(number_of_run), (size, score), xytext=(6 * side, 0), ha="left" if side > 0 else "right",
                va="center", textcoords="offset points", color=MUTED, fontsize=7,
            )  # fmt: skip
