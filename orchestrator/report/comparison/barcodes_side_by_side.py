"""Figure of the barcodes of several runs on one loss axis, as in Figure 2 of the paper."""

import math
from collections.abc import Sequence
from functools import partial

from matplotlib.collections import LineCollection
from matplotlib.figure import Figure as Drawing

from orchestrator.report.comparison.compared_runs import Compared
from orchestrator.report.figure import Figure, table_of
from orchestrator.report.groups import wrapped
from orchestrator.report.style import (
    FIRST,
    GRID,
    NARROW,
    SECOND,
    WIDE,
    log_axis,
    number,
    spans_decades,
)


def barcodes_figure(runs: Sequence[Compared]) -> Figure:
    """The elder barcodes side by side, with the loss on the vertical axis."""
    rows = [
        (item.label, bar.minimum, bar.birth, bar.death)
        for item in runs
        for bar in item.landscape.barcodes["elder"].bars
    ]
    described = "; ".join(_in_words(item) for item in runs)
    return Figure(
        name="barcodes",
        title="Barcodes side by side",
        caption=(
            "One column for each run, one vertical line for each bar, from the loss of its minimum to the "
            "lowest pass to a lower minimum (elder rule). Arrows are bars that do not end. All runs share "
            "the axis of the training loss; losses on different data are not comparable."
        ),
        alt=f"Barcodes of {len(runs)} runs on one axis. {described}.",
        table=table_of(("run", "minimum", "birth", "death"), rows),
        draw=partial(_draw_barcodes, runs),
    )


def _in_words(item: Compared) -> str:
    births = [bar.birth for bar in item.landscape.barcodes["elder"].bars]
    return (
        f"{item.label}: losses from {number(min(births))} to {number(max(births))}, TO-score "
        f"{number(item.score)}"
    )


def _draw_barcodes(runs: Sequence[Compared], wide: bool) -> Drawing:
    figure = Drawing(figsize=(WIDE if wide else NARROW, 4.0))
    ax = figure.subplots()
    bars = [item.landscape.barcodes["elder"].bars for item in runs]
    ends = [v for own in bars for b in own for v in (b.birth, b.death) if math.isfinite(v)]
    log = spans_decades(ends)
    low, high = min(ends), max(ends)
    top = high * (high / low) ** 0.1 if log else high + 0.1 * (high - low or abs(high) or 1)
    finite, endless = [], []
    for slot, own in enumerate(bars):
        for position, bar in enumerate(own):
            x = slot + 0.1 + 0.8 * (position + 0.5) / len(own)
            if math.isfinite(bar.death):
                finite.append([(x, bar.birth), (x, bar.death)])
            else:
                endless.append([(x, bar.birth), (x, top)])
    room = (300 if wide else 150) / max(1, sum(map(len, bars)))
    width = max(0.6, min(5.0, room))
    ax.add_collection(LineCollection(finite, colors=FIRST, linewidths=width, capstyle="butt"))
    ax.add_collection(LineCollection(endless, colors=SECOND, linewidths=width, capstyle="butt"))
    ax.plot(
        [line[0][0] for line in endless],
        [top] * len(endless),
        "^",
        color=SECOND,
        ms=5,
        clip_on=False,
    )
    for lines, colour in ((finite, FIRST), (endless, SECOND)):
        births = [line[0] for line in lines]  # the mark of its birth shows a bar of zero length
        if births:
            ax.plot(*zip(*births, strict=True), "_", color=colour, ms=width + 3)
    for slot in range(1, len(runs)):
        ax.axvline(slot, color=GRID, lw=1)
    ax.set_xlim(0, len(runs))
    # Space below, so that bars of zero length at the lowest loss are visible.
    ax.set_ylim(low / (high / low) ** 0.05 if log else low - 0.05 * (high - low or 1), top)
    ax.set_xticks([slot + 0.5 for slot in range(len(runs))])
    characters = max(4, int((70 if wide else 34) / len(runs)))
    ax.set_xticklabels([wrapped(item.label, characters) for item in runs])
    ax.tick_params(axis="x", length=0)
    ax.set_ylabel("training loss")
    ax.grid(axis="y")
    ax.set_axisbelow(True)
    if log:
        log_axis(ax, "y")
    return figure
