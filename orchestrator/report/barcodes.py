"""Figures of barcodes: bars on a loss axis, and a persistence diagram."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure as Drawing

from orchestrator.report.figure import Figure, Table
from orchestrator.report.style import (
    FIRST,
    GRID,
    INK,
    MUTED,
    NARROW,
    SECOND,
    WIDE,
    few_ticks,
    log_axis,
    number,
    spans_decades,
)
from topo_core.homology.bar_ends import EndKind
from topo_core.homology.barcodes import Barcode, Interval
from topo_core.homology.persistent_homology import HomologyBarcode

AnyBarcode = Barcode | HomologyBarcode
Line = list[tuple[float, float]]
"""Points (x, y) of a line in data coordinates."""

LABELLED = 40
"""Largest number of bars that have a label each: more labels would overlap."""

RULES = {"elder": "elder rule", "direct": "direct paths, Algorithm 1"}


@dataclass(frozen=True)
class Panel:
    """One barcode with its heading.

    Attributes:
        title: heading above the bars.
        bars: the bars of one index.
        ends: number of a minimum → value of `EndKind` of its finite bar; empty if no peak was refined.
    """

    title: str
    bars: AnyBarcode
    ends: Mapping[int, str] = field(default_factory=dict)

    def end(self, bar: Interval) -> str:
        """The value of `EndKind` of a bar; empty if not known."""
        minimum = getattr(bar, "minimum", None)
        return self.ends.get(minimum, "") if minimum is not None else ""


def barcode_figure(panels: Sequence[Panel], *, index: int, name: str = "") -> Figure:
    """Barcodes of one index in panels with a common loss axis.

    Args:
        panels: one for each barcode.
        index: index of all barcodes.
        name: stem of the file names; by default `barcode-INDEX`.
    """
    whose = "minima" if index == 0 else f"index {index}"
    births = (
        "A bar begins at the loss of its minimum and ends at the lowest pass to a lower minimum. Its length "
        "is the barrier between the minimum and lower ones. The bar of the lowest minimum never ends."
        + _open_bars(panels, "no path to a lower minimum is complete")
        + _marked_ends(panels)
        if index == 0
        else f"A bar begins where optimised {index}-simplices close a cycle and ends where simplices of "
        f"the next dimension fill it." + _open_bars(panels, "no simplex that fills it is complete")
    )
    return Figure(
        name=name or f"barcode-{index}",
        title=f"Barcode of {whose}",
        caption=births,
        alt=f"Barcode of {whose}. " + " ".join(f"{p.title}: {described(p.bars)}" for p in panels),
        table=bars_table(panels),
        draw=partial(_draw_barcodes, panels),
    )


def _marked_ends(panels: Sequence[Panel]) -> str:
    if not any(panel.ends for panel in panels):
        return ""
    return (
        " A dot marks an end at a verified saddle of index 1, a cross an end at a kink of the loss. An end "
        "without a mark is the highest loss on a path, an upper bound: lower passes may exist."
    )


def _open_bars(panels: Sequence[Panel], why: str) -> str:
    any_open = any(left_open(panel.bars) for panel in panels)
    return f" A dashed bar has no end so far: {why}." if any_open else ""


def left_open(bars: AnyBarcode) -> tuple[Interval, ...]:
    """The infinite bars that may become finite when missing minima, paths or simplices are added.

    For index 0 these are all infinite bars but the first, that of the lowest minimum.
    """
    return bars.infinite[1 if bars.index == 0 else 0 :]


def described(bars: AnyBarcode) -> str:
    """A barcode described in one or two sentences."""
    if not bars.bars:
        return "No bar has a length."
    longest = bars.longest
    text = f"{len(bars.finite)} finite and {len(bars.infinite)} infinite bars."
    if longest is not None:
        text += (
            f" The longest finite bar runs from {number(longest.birth)} to "
            f"{number(longest.death)}, a length of {number(longest.length)}."
        )
    return text


def bars_table(panels: Sequence[Panel]) -> Table:
    """The data of a figure of barcodes: one row for each bar."""
    rows = [(panel.title, bar) for panel in panels for bar in panel.bars.bars]
    ends = [panel.end(bar) for panel in panels for bar in panel.bars.bars]
    return Table(
        {
            "barcode": [title for title, _ in rows],
            "born at": [_born(bar) for _, bar in rows],
            "birth": [bar.birth for _, bar in rows],
            "death": [bar.death for _, bar in rows],
            "length": [bar.length for _, bar in rows],
            "dies at": [_dies(bar) for _, bar in rows],
            **({"ends at": ends} if any(ends) else {}),
        }
    )


def _born(bar: object) -> str:
    simplex = getattr(bar, "born", None)
    return "–".join(map(str, simplex)) if simplex else str(getattr(bar, "minimum", ""))


def _dies(bar: object) -> str:
    simplex = getattr(bar, "killed", None) or getattr(bar, "saddle", None)
    return "–".join(map(str, simplex)) if simplex else ""


def _draw_barcodes(panels: Sequence[Panel], wide: bool) -> Drawing:
    most = max((len(p.bars.bars) for p in panels), default=1)
    height = min(6.4 if most <= LABELLED else 4.6, 1.0 + 0.2 * most)
    beside = wide and len(panels) > 1
    rows, columns = (1, len(panels)) if beside else (len(panels), 1)
    figure = Drawing(figsize=(WIDE if wide else NARROW, max(1.5, height) * rows))
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    ends = [v for p in panels for bar in p.bars.bars for v in (bar.birth, bar.death)]
    ends = [v for v in ends if math.isfinite(v)]
    log = spans_decades(ends)
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    room = room_for(low, high, log)
    for ax, panel in zip(axes, panels, strict=True):
        ax.set_title(panel.title)
        draw_bars(ax, panel.bars, right=room[1])
        _mark_ends(ax, panel)
        ax.set_xlim(*room)
        if not ends:
            ax.set_xticks([])  # no bar determines a scale
        elif log:
            log_axis(ax, "x")
        else:
            few_ticks(ax, wide and not beside)
    for ax in axes if beside else axes[-1:]:
        ax.set_xlabel("training loss")
    return figure


def _mark_ends(ax: Axes, panel: Panel) -> None:
    """Draw a dot at the end of each bar that ends at a verified saddle, and a cross if it ends at a kink."""
    rows = list(enumerate(panel.bars.bars))
    for kind, mark in ((EndKind.SADDLE, "o"), (EndKind.KINK, "x")):
        at = [(bar.death, row) for row, bar in rows if panel.end(bar) == kind.value]
        if at:
            ax.plot(*zip(*at, strict=True), mark, color=INK, ms=5, zorder=3)


def room_for(low: float, high: float, log: bool) -> tuple[float, float]:
    """Axis limits for the range [low, high], with 8 % of space on both sides."""
    if log:
        factor = (high / low) ** 0.08
        return low / factor, high * factor
    margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def draw_bars(ax: Axes, bars: AnyBarcode, *, right: float, label: str = "minimum") -> None:
    """Draw bars, the lowest birth at the top.

    An infinite bar ends in an arrow; it is dashed if the simplex that would end it is missing (`left_open`).

    Args:
        ax: axes to draw into.
        bars: a barcode.
        right: position of the arrows, in units of the loss.
        label: label of the vertical axis for index 0.
    """
    shown = bars.bars
    width = 5.0 if len(shown) <= 20 else max(0.6, 100 / len(shown))
    finite: list[Line] = []
    endless: list[Line] = []
    dashed: list[Line] = []
    unknown = set(map(id, left_open(bars)))
    for row, bar in enumerate(shown):
        if not math.isfinite(bar.death):
            lines = dashed if id(bar) in unknown else endless
            lines.append([(bar.birth, row), (right, row)])
        else:
            finite.append([(bar.birth, row), (bar.death, row)])
    ax.grid(axis="x")
    ax.set_axisbelow(True)
    many = len(shown) > 5 * LABELLED
    for lines, colour in ((finite, FIRST), (endless, SECOND)):
        drawn = LineCollection(lines, colors=colour, linewidths=width, capstyle="butt")
        drawn.set_rasterized(many)
        ax.add_collection(drawn)
    ax.add_collection(
        LineCollection(
            dashed, colors=SECOND, linewidths=max(0.6, width / 2.5), linestyles=(0, (2, 1)),
            rasterized=many,
        )
    )  # fmt: skip
    for lines, fill in ((endless, "full"), (dashed, "none")):
        if lines:
            ax.plot(
                [right] * len(lines), [line[1][1] for line in lines], ">", color=SECOND,
                ms=6 if len(shown) <= LABELLED else 3, fillstyle=fill, clip_on=False,
            )  # fmt: skip
    # The mark of its birth shows a bar that is too short to be seen.
    births = [line[0] for line in finite]
    if births:
        ax.plot(*zip(*births, strict=True), "|", color=FIRST, ms=max(2.0, width), rasterized=many)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    if not shown:
        ax.set_yticks([])
        ax.text(0.5, 0.5, "no bar has a length", transform=ax.transAxes, ha="center", va="center")
    elif len(shown) <= LABELLED:
        ax.set_yticks(range(len(shown)), [_born(bar) for bar in shown])
        ax.tick_params(axis="y", length=0)
        ax.set_ylabel(label if bars.index == 0 else "simplex")
    else:
        ax.set_yticks([])
        ax.set_ylabel(f"{len(shown)} bars, by birth")


def diagram_figure(barcodes: Mapping[str, AnyBarcode]) -> Figure:
    """Persistence diagram of the finite bars; each barcode, by title, has its own marker."""
    panels = [Panel(title, bars) for title, bars in barcodes.items()]
    return Figure(
        name="persistence-diagram",
        title="Persistence diagram",
        caption=(
            "Each finite bar is a point: birth across, death up. The higher above the diagonal, the "
            "longer the bar. The dashed line is at twice the TO-score: no point of the first barcode "
            "lies above it. Infinite bars are triangles on the upper edge."
        ),
        alt="Persistence diagram. " + " ".join(f"{p.title}: {described(p.bars)}" for p in panels),
        table=bars_table(panels),
        draw=partial(_draw_diagram, panels),
    )


_MARKS = (("o", FIRST), ("x", SECOND), ("^", MUTED), ("s", MUTED))


def _draw_diagram(panels: Sequence[Panel], wide: bool) -> Drawing:
    size = 4.2 if wide else NARROW
    figure = Drawing(figsize=(size, size))
    ax = figure.subplots()
    ends = [v for p in panels for bar in p.bars.bars for v in (bar.birth, bar.death)]
    ends = [v for v in ends if math.isfinite(v)] or [0.0, 1.0]
    log = spans_decades(ends)
    low, high = room_for(min(ends), max(ends), log)
    steps = [low + (high - low) * k / 100 for k in range(101)]
    ax.fill_between([low, high], [low, low], [low, high], color=GRID, alpha=0.5, lw=0)
    ax.plot([low, high], [low, high], color=MUTED, lw=1)
    longest = panels[0].bars.longest if panels else None
    if longest is not None and longest.length > 0:
        ax.plot(steps, [s + longest.length for s in steps], "--", color=FIRST, lw=1)
    for panel, (mark, colour) in zip(panels, _MARKS, strict=False):
        finite = panel.bars.finite
        ax.plot(
            [b.birth for b in finite], [b.death for b in finite], mark, color=colour, ms=5,
            alpha=0.85, label=panel.title, fillstyle="full" if mark == "x" else "none",
            rasterized=len(finite) > 500,
        )  # fmt: skip
    infinite = panels[0].bars.infinite if panels else ()
    unknown = set(map(id, left_open(panels[0].bars))) if panels else set()
    for bar in infinite:
        fill = "none" if id(bar) in unknown else "full"
        ax.plot([bar.birth], [high], "^", color=SECOND, ms=7, fillstyle=fill, clip_on=False)
    ax.set(xlim=(low, high), ylim=(low, high), xlabel="birth: loss of the minimum")
    ax.set_ylabel("death: height of the pass")
    if log:
        log_axis(ax, "x")
        log_axis(ax, "y")
    else:
        few_ticks(ax, wide=False)
        ax.yaxis.set_major_locator(ax.xaxis.get_major_locator())
    ax.set_box_aspect(1)
    ax.legend(loc="lower right")
    return figure
