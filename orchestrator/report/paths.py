"""Figures of paths: the loss along the paths that end a bar, and the history of their optimisation."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure as Drawing

from orchestrator.report.figure import Figure, table_of
from orchestrator.report.style import (
    FIRST,
    GRID,
    INK,
    MUTED,
    NARROW,
    SECOND,
    THIRD,
    WIDE,
    few_ticks,
    log_axis,
    number,
    spans_decades,
)
from topo_core.homology.barcodes import Bar, Barcode
from workers.storage.schema import PairRecord

Pair = tuple[int, int]
Passes = Mapping[Pair, PairRecord]
Columns = Mapping[str, Sequence[float]]

PANELS = 24
"""Largest number of paths that are drawn, each in its own panel: six rows of four fit on a page."""

TRACED = 40
"""Largest number of paths whose optimisation is drawn as a line: more lines cannot be told apart."""

QUANTILES = (0.1, 0.9)
"""Quantiles over all paths between which the band is drawn: the middle 80 %."""


@dataclass(frozen=True)
class PathPoints:
    """Data of the points of a path, which are in its stored object and not in its record.

    Attributes:
        positions: [k], positions of the points as fractions of the arc length.
        epochs: [e], epochs at which the norms below were measured; empty if they were not kept.
        normal, tangent: [e][m], norms of the normal and tangential components of the gradient at each moving
            point, one row for each epoch.
    """

    positions: Sequence[float]
    epochs: Sequence[int] = ()
    normal: Sequence[Sequence[float]] = ()
    tangent: Sequence[Sequence[float]] = ()


ReadPoints = Callable[[Pair], PathPoints | None]
"""Reads the points of a path; returns None if they were not kept or cannot be read."""


def paths_of_bars(bars: Barcode, passes: Passes) -> list[tuple[Bar, Pair]]:
    """The finite bars with the paths that end them, the longest bar first.

    Each path occurs once, with the longest bar that it ends.
    """
    bar_of: dict[Pair, Bar] = {}
    for bar in sorted(bars.finite, key=lambda bar: (-bar.length, bar.birth)):
        if bar.saddle is not None and bar.saddle in passes:
            bar_of.setdefault(bar.saddle, bar)
    return [(bar, pair) for pair, bar in bar_of.items()]


def losses_figure(bars: Barcode, passes: Passes, points: ReadPoints) -> Figure | None:
    """Loss along the paths that end a bar; None if there is no such path with a loss profile."""
    # In runs with very many paths the profiles are not read from the store.
    ending = [item for item in paths_of_bars(bars, passes) if len(passes[item[1]].positions)]
    if not ending:
        return None
    shown = ending[:PANELS]
    knots = {pair: points(pair) for _, pair in shown}
    rows = [
        (f"{pair[0]}–{pair[1]}", position, loss)
        for _, pair in ending
        for position, loss in zip(passes[pair].positions, passes[pair].losses, strict=True)
    ]
    rest = (
        f" These are the {len(shown)} longest of {len(ending)} bars; the curves of all are in the "
        "data."
        if len(ending) > len(shown)
        else ""
    )
    highest = max(passes[pair].height for _, pair in ending)
    return Figure(
        name="loss-along-paths",
        title="Loss along the paths that end bars",
        caption=(
            "From one minimum (left) to the other (right) by arc length. Circles are the points of the "
            "path. The line is the loss along the polygon, sampled until its maximum is bracketed; the band "
            "at the top is the estimated error of that maximum. The triangle marks the pass, and the dashed "
            f"line the birth of the bar that ends there.{rest}"
        ),
        alt=(
            f"Loss along {len(shown)} paths, longest bar first, from path "
            f"{_named(shown[0][1])} of height {number(passes[shown[0][1]].height)}. "
            f"The highest of all passes shown is {number(highest)}."
        ),
        table=table_of(("path", "position", "loss"), rows),
        draw=partial(_draw_losses, shown, passes, knots),
    )


def _named(pair: Pair) -> str:
    return f"{pair[0]}–{pair[1]}"


def _draw_losses(
    shown: Sequence[tuple[Bar, Pair]],
    passes: Passes,
    knots: Mapping[Pair, PathPoints | None],
    wide: bool,
) -> Drawing:
    columns = min(4 if wide else 2, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Drawing(figsize=(WIDE if wide else NARROW, 0.4 + 1.55 * rows))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    log = spans_decades([v for _, pair in shown for v in passes[pair].losses])
    for ax, (bar, pair) in zip(axes, shown, strict=False):
        _draw_path(ax, bar, passes[pair], knots[pair])
        ax.set_title(f"path {_named(pair)}", fontsize=8)
    for ax in axes[len(shown) :]:
        ax.set_visible(False)
    for ax in axes[max(0, len(shown) - columns) : len(shown)]:  # the bottom panel of each column
        ax.tick_params(labelbottom=True)
    if log:
        log_axis(axes[0], "y")
    axes[0].set_xlim(-0.03, 1.03)
    axes[0].set_xticks([0, 0.5, 1], ["0", "½", "1"])
    figure.supxlabel("share of the arc length", fontsize=9)
    figure.supylabel("training loss", fontsize=9)
    return figure


def _draw_path(ax: Axes, bar: Bar, record: PairRecord, knots: PathPoints | None) -> None:
    if math.isfinite(record.height_high):
        ax.axhspan(record.height, record.height_high, color=SECOND, alpha=0.25, lw=0)
    ax.axhline(record.height, color=SECOND, lw=0.8)
    ax.axhline(bar.birth, color=MUTED, lw=0.8, ls="--")
    ax.plot(record.positions, record.losses, color=FIRST, lw=1.2)
    if knots is not None:
        # Exact at the points, because the loss was evaluated at each of them.
        heights = np.interp(knots.positions, record.positions, record.losses)
        ax.plot(knots.positions, heights, "o", color=FIRST, ms=3, fillstyle="none")
    ax.plot([record.argmax_position], [record.height], "v", color=SECOND, ms=4)


def history_figure(bars: Barcode, passes: Passes) -> Figure | None:
    """Highest loss of paths, and both components of the gradient, against epochs; None without histories."""
    with_history = {pair: record for pair, record in passes.items() if len(record.history) > 1}
    if not with_history:
        return None
    ending = [pair for _, pair in paths_of_bars(bars, passes) if pair in with_history]
    traced = (ending or list(with_history))[:TRACED]
    traces = {pair: _columns(with_history[pair]) for pair in traced}
    names = ("epoch", "dense_maximum", "max_loss", "normal_norm", "tangent_norm")
    rows = [
        (_named(pair), *values)
        for pair, columns in traces.items()
        for values in zip(*(columns[name] for name in names), strict=True)
    ]
    spread = _spread(with_history)
    first, last = traces[traced[0]]["dense_maximum"][0], traces[traced[0]]["dense_maximum"][-1]
    lines = "the paths that end bars" if ending else "the first paths"
    if len(ending) > len(traced):
        lines = f"the paths that end the {len(traced)} longest bars"
    return Figure(
        name="path-optimisation",
        title="Optimisation of the paths",
        caption=(
            f"Lines: {lines}. Band: the middle 80 % of all {len(with_history)} paths. Top: the highest loss "
            "on the polygon. Middle: the norm of the component of the gradient normal to the path, which "
            "moves the points. Bottom: the tangential component, which does not move them. Both norms are "
            "root mean squares over the moving points, on the last minibatch of an epoch."
        ),
        alt=(
            f"Three charts against epochs of {len(with_history)} paths. The maximum of path "
            f"{_named(traced[0])} goes from {number(first)} to {number(last)}."
        ),
        table=table_of(("path", *names), rows),
        draw=partial(_draw_history, traces, spread),
    )


def _columns(record: PairRecord) -> dict[str, list[float]]:
    rows = record.history
    return {name: [row[name] for row in rows] for name in rows[0]}


def _spread(passes: Passes) -> dict[str, dict[float, tuple[float, float]]]:
    """Measured quantity → epoch → the two `QUANTILES` over all paths."""
    quantiles: dict[str, dict[float, tuple[float, float]]] = {}
    for name in ("dense_maximum", "normal_norm", "tangent_norm"):
        values: dict[float, list[float]] = {}
        for record in passes.values():
            for row in record.history:
                if name == "dense_maximum" or row["epoch"] > 0:  # no gradient was taken at epoch 0
                    values.setdefault(row["epoch"], []).append(row[name])
        quantiles[name] = {
            epoch: (float(low), float(high))
            for epoch, column in sorted(values.items())
            for low, high in [np.quantile(column, QUANTILES)]
        }
    return quantiles


def _draw_history(
    traces: Mapping[Pair, Columns],
    spread: Mapping[str, Mapping[float, tuple[float, float]]],
    wide: bool,
) -> Drawing:
    figure = Drawing(figsize=(WIDE if wide else NARROW, 5.2))
    axes = figure.subplots(3, 1, sharex=True, height_ratios=(2, 1.2, 1.2))
    wanted = (
        ("dense_maximum", "highest loss", FIRST),
        ("normal_norm", "normal gradient", SECOND),
        ("tangent_norm", "tangential gradient", THIRD),
    )
    alpha = max(0.25, min(0.9, 8 / len(traces)))
    for ax, (name, label, colour) in zip(axes, wanted, strict=True):
        band = spread[name]
        if band:
            low, high = zip(*band.values(), strict=True)
            ax.fill_between(list(band), low, high, color=colour, alpha=0.15, lw=0)
        lines = []
        for columns in traces.values():
            rows = zip(columns["epoch"], columns[name], strict=True)
            lines.append([(e, v) for e, v in rows if name == "dense_maximum" or e > 0])
        ax.add_collection(LineCollection(lines, colors=colour, linewidths=0.9, alpha=alpha))
        alone = [line[0] for line in lines if len(line) == 1]  # a line needs two measurements
        ax.plot([e for e, _ in alone], [v for _, v in alone], ".", color=colour, ms=5, alpha=alpha)
        ax.autoscale()
        values = [v for line in lines for _, v in line]
        if spans_decades(values) or (name == "dense_maximum" and _falls(values)):
            log_axis(ax, "y")
        ax.set_ylabel(label)
        ax.grid(axis="y")
        ax.set_axisbelow(True)
    axes[-1].set_xlabel("epoch")
    few_ticks(axes[-1], wide, integer=True)
    return figure


def _falls(values: Sequence[float]) -> bool:
    return bool(values) and min(values) > 0 and max(values) / min(values) > 10


def norms_figure(bars: Barcode, passes: Passes, points: ReadPoints) -> Figure | None:
    """Both components of the gradient at each point of one path, at several epochs.

    The paper's Figures G.8 and G.9, for the path that ends the longest bar among the paths whose norms were
    kept. None if there is none.
    """
    kept = ((bar, pair, points(pair)) for bar, pair in paths_of_bars(bars, passes))
    bar, pair, held = next(
        (item for item in kept if item[2] is not None and item[2].epochs), (None, None, None)
    )
    if bar is None or pair is None or held is None:
        return None
    rows = [
        (epoch, point + 1, held.tangent[k][point], held.normal[k][point])
        for k, epoch in enumerate(held.epochs)
        for point in range(len(held.normal[k]))
    ]
    names = ("epoch", "point", "tangent norm", "normal norm")
    return Figure(
        name="gradient-norms",
        title=f"Gradient at each point of path {_named(pair)}",
        caption=(
            f"The path that ends the longest bar, of length {number(bar.length)}, at several "
            "epochs of its optimisation, from light to dark; each norm is of the last minibatch of an epoch. "
            "First the tangential component (the paper's Figure G.8), then the normal component "
            "(Figure G.9). On a converged path the remaining normal component is minibatch noise."
        ),
        alt=(
            f"Gradient norms at {len(held.normal[-1])} points of path {_named(pair)} from epoch "
            f"{held.epochs[0]} to {held.epochs[-1]}; the largest normal component goes from "
            f"{number(max(held.normal[0]))} to {number(max(held.normal[-1]))}."
        ),
        table=table_of(names, rows),
        draw=partial(_draw_norms, held),
    )


MOMENTS = 6
"""Largest number of epochs that are drawn: more shades of one colour cannot be told apart."""


def _draw_norms(held: PathPoints, wide: bool) -> Drawing:
    chosen = np.unique(np.linspace(0, len(held.epochs) - 1, MOMENTS).round().astype(int))
    rows, columns = (1, 2) if wide else (2, 1)
    figure = Drawing(figsize=(WIDE, 3.0) if wide else (NARROW, 5.4))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    parts = (("tangential component", held.tangent), ("normal component", held.normal))
    for ax, (title, norms) in zip(axes, parts, strict=True):
        for order, k in enumerate(chosen):
            strength = 0.25 + 0.75 * (order + 1) / len(chosen)
            ax.plot(
                range(1, len(norms[k]) + 1), norms[k], color=INK if order + 1 == len(chosen) else FIRST,
                alpha=strength, lw=1.0 + (order + 1 == len(chosen)), label=f"epoch {held.epochs[k]}",
                marker="o" if len(norms[k]) == 1 else "",  # a line needs two points
            )  # fmt: skip
        ax.set_title(title)
        ax.set_xlabel("point")
        few_ticks(ax, wide, integer=True)
        ax.grid(axis="y", color=GRID)
        ax.set_axisbelow(True)
        if spans_decades([v for k in chosen for v in norms[k]]):
            log_axis(ax, "y")
    axes[0].set_ylabel("norm of the gradient")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6 if wide else 3
    )
    return figure
