"""Figure of pairs of runs whose networks differ only in one switch, as in Figure 3 of the paper.

A switch is an option of a network that is true or false, such as `batch_norm`.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.figure import Figure as Drawing

from orchestrator.report.comparison.compared_runs import Compared
from orchestrator.report.figure import Figure, table_of
from orchestrator.report.groups import wrapped
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


@dataclass(frozen=True)
class Match:
    """Two runs on the same data whose networks differ only in one switch: without it, and with it."""

    switch: str
    off: Compared
    on: Compared


def matches(runs: Sequence[Compared]) -> list[Match]:
    """All pairs of runs on the same data whose networks have the same name and differ only in one switch.

    Other settings of the runs are not compared.
    """
    matched = []
    for a, b in itertools.combinations(runs, 2):
        same_data = a.run.plan.identity.data == b.run.plan.identity.data
        if a.network.name != b.network.name or not same_data:
            continue
        first, second = a.network.keywords(), b.network.keywords()
        sides = [
            (key, first.get(key, False), second.get(key, False))
            for key in sorted({*first, *second})
        ]
        differing = [side for side in sides if side[1] != side[2]]
        if len(differing) != 1:
            continue
        switch, of_a, of_b = differing[0]
        if isinstance(of_a, bool) and isinstance(of_b, bool):
            off, on = (a, b) if of_b else (b, a)
            matched.append(Match(switch.replace("_", " "), off, on))
    return matched


def pairs_figure(runs: Sequence[Compared]) -> Figure | None:
    """Lowest loss and passes of networks with and without a switch; None if there is no such pair."""
    matched = matches(runs)
    if not matched:
        return None
    rows = [
        (f"{match.off.label} / {match.on.label}", match.switch, side, *_levels(item))
        for match in matched
        for side, item in (("without", match.off), ("with", match.on))
    ]
    names = ("pair", "switch", "side", "lowest loss", "median pass", "highest pass", "TO-score")
    words = "; ".join(
        f"{m.switch}: TO-score {number(m.off.score)} without ({m.off.label}), {number(m.on.score)} with"
        for m in matched
    )
    return Figure(
        name="matched-pairs",
        title="Matched pairs",
        caption=(
            "Networks that differ in one option only: without it on the left of each panel, with it on the "
            "right. Squares: lowest loss; dots: median end of the bars; triangles: highest end. "
            f"{words}."
        ),
        alt=f"{len(matched)} matched pairs of runs. {words}.",
        table=table_of(names, rows),
        draw=partial(_draw_pairs, matched),
    )


def _levels(item: Compared) -> tuple[float, float, float, float]:
    deaths = [bar.death for bar in item.landscape.barcodes["elder"].finite] or [math.nan]
    lowest = min(item.landscape.losses.values())
    return lowest, float(np.median(deaths)), max(deaths), item.score


def _draw_pairs(matched: Sequence[Match], wide: bool) -> Drawing:
    columns = min(len(matched), 4 if wide else 2)
    rows = math.ceil(len(matched) / columns)
    figure = Drawing(figsize=(WIDE if wide else NARROW, 0.3 + 2.6 * rows))
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    values = [v for m in matched for item in (m.off, m.on) for v in _levels(item)[:3]]
    for ax, match in zip(axes, matched, strict=False):
        off, on = _levels(match.off), _levels(match.on)
        for k, (mark, colour) in enumerate((("s", MUTED), ("o", FIRST), ("^", SECOND))):
            ax.plot([0, 1], [off[k], on[k]], mark + "-", color=colour, ms=5, lw=1)
        ax.set_xticks([0, 1], [f"no {match.switch}", match.switch])
        ax.set_xlim(-0.4, 1.4)
        ax.set_title(wrapped(f"{match.off.label} / {match.on.label}", 20), fontsize=8)
        ax.grid(axis="y")
        ax.set_axisbelow(True)
    for ax in axes[len(matched) :]:
        ax.set_visible(False)
    if spans_decades(values):
        log_axis(axes[0], "y")
    axes[0].set_ylabel("training loss")
    return figure
