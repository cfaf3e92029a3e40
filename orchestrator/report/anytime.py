"""The barcode of an unfinished run, with the parts that no remaining path can change.

Further paths can only lower a pass, and no pass is lower than the higher of its two minima. Assume that every
remaining path is as low as this bound: a bar is settled from its birth up to its end in that case, and
undecided from there up to its current end. No bar is settled while minima are missing, because a missing
minimum may be lower than any other, nor while paths are still to be led over saddles, which lowers them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib.collections import LineCollection
from matplotlib.figure import Figure as Drawing

from orchestrator.analysis.landscape import Landscape
from orchestrator.report.barcodes import LABELLED, room_for
from orchestrator.report.figure import Figure, Table
from orchestrator.report.style import (
    FIRST,
    NARROW,
    SECOND,
    WIDE,
    few_ticks,
    log_axis,
    spans_decades,
)


@dataclass(frozen=True)
class AnytimeBar:
    """A bar of the elder barcode of the finished minima and paths.

    Attributes:
        minimum: number of the minimum.
        birth: loss of the minimum.
        settled: lower bound of the end of the bar, whatever the remaining paths are.
        death: end of the bar with the finished paths; infinite if there is none.
    """

    minimum: int
    birth: float
    settled: float
    death: float

    @property
    def decided(self) -> bool:
        """Whether no remaining path can change the bar."""
        return self.settled == self.death


def anytime_bars(landscape: Landscape, *, adaptive: bool) -> list[AnytimeBar]:
    """The bars in the order of their births.

    Args:
        landscape: the results so far.
        adaptive: whether paths are optimised in rungs, so that a finished path may still become lower.
    """
    waiting = len(landscape.minima) < landscape.minima_expected
    refining = landscape.saddles_done < landscape.saddles_expected  # which lowers paths
    moving = waiting or refining or (adaptive and landscape.counts.open > 0)
    low = landscape.undecided.death_low
    return [
        AnytimeBar(
            bar.minimum,
            bar.birth,
            bar.birth if moving else low.get(bar.minimum, bar.death),
            bar.death,
        )
        for bar in landscape.barcodes["elder"].bars
    ]


def score_bounds(bars: Sequence[AnytimeBar]) -> tuple[float, float]:
    """Lower and upper bound of the TO-score of the complete run; valid once all minima are trained."""
    finite = [bar for bar in bars if not (bar.decided and math.isinf(bar.death))]
    low = max(((bar.settled - bar.birth) / 2 for bar in finite), default=0.0)
    return low, max(((bar.death - bar.birth) / 2 for bar in finite), default=0.0)


def anytime_figure(landscape: Landscape, bars: Sequence[AnytimeBar]) -> Figure:
    """The barcode of the finished minima and paths; undecided parts are dashed."""
    counts = landscape.counts
    decided = sum(bar.decided for bar in bars)
    done = (
        f"{len(landscape.minima)} of {landscape.minima_expected} minima and {counts.done} of "
        f"{counts.done + counts.open + counts.failed} paths"
    )
    return Figure(
        name="barcode-so-far",
        title="The barcode so far",
        caption=(
            f"With {done}. No missing path can change the solid part of a bar; it may end anywhere on "
            f"the dashed part. {decided} of {len(bars)} bars are decided."
        ),
        alt=f"Barcode with {done}; {decided} of {len(bars)} bars are decided.",
        table=Table(
            {
                "minimum": [bar.minimum for bar in bars],
                "birth": [bar.birth for bar in bars],
                "settled up to": [bar.settled for bar in bars],
                "death so far": [bar.death for bar in bars],
                "decided": ["yes" if bar.decided else "no" for bar in bars],
            }
        ),
        draw=partial(_draw, bars),
    )


def _draw(bars: Sequence[AnytimeBar], wide: bool) -> Drawing:
    figure = Drawing(figsize=(WIDE if wide else NARROW, min(6.0, max(1.5, 1.0 + 0.2 * len(bars)))))
    ax = figure.subplots()
    ends = [v for bar in bars for v in (bar.birth, bar.death) if math.isfinite(v)]
    log = spans_decades(ends)
    left, right = room_for(min(ends), max(ends), log)
    width = 5.0 if len(bars) <= 20 else max(0.6, 100 / len(bars))
    solid, dashed = [], []
    for row, bar in enumerate(bars):
        if bar.settled > bar.birth:
            solid.append([(bar.birth, row), (min(bar.settled, right), row)])
        if not bar.decided:
            dashed.append([(bar.settled, row), (min(bar.death, right), row)])
    ax.add_collection(LineCollection(solid, colors=FIRST, linewidths=width, capstyle="butt"))
    ax.add_collection(
        LineCollection(
            dashed, colors=SECOND, linewidths=max(1.0, width / 2.5), linestyles=(0, (2, 1))
        )
    )
    births = [bar.birth for bar in bars]
    ax.plot(births, range(len(bars)), "|", color=FIRST, ms=max(3.0, width + 4))
    endless = [row for row, bar in enumerate(bars) if math.isinf(bar.death)]
    for row in endless:
        colour = FIRST if bars[row].decided else SECOND
        ax.plot([right], [row], ">", color=colour, ms=6, clip_on=False)
    ax.set_xlim(left, right)
    ax.set_ylim(len(bars) - 0.4, -0.6)
    ax.grid(axis="x")
    ax.set_axisbelow(True)
    if log:
        log_axis(ax, "x")
    else:
        few_ticks(ax, wide)
    if len(bars) <= LABELLED:
        ax.set_yticks(range(len(bars)), [str(bar.minimum) for bar in bars])
        ax.tick_params(axis="y", length=0)
        ax.set_ylabel("minimum")
    else:
        ax.set_yticks([])
        ax.set_ylabel(f"{len(bars)} bars, by birth")
    ax.set_xlabel("training loss")
    return figure
