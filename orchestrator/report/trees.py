"""Figures of how basins merge: the disconnectivity graph, and the matrix of pass heights."""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure as Drawing

from orchestrator.report.barcodes import LABELLED
from orchestrator.report.figure import Figure, Table, table_of
from orchestrator.report.style import (
    FIRST,
    INK,
    MISSING,
    MUTED,
    NARROW,
    SECOND,
    SEQUENTIAL,
    WIDE,
    log_axis,
    number,
    spans_decades,
)
from topo_core.homology.merge_trees import MergeTree, merge_tree
from topo_core.homology.transition_networks import TransitionNetwork

Pair = tuple[int, int]


def tree_figure(tree: MergeTree) -> Figure:
    """The disconnectivity graph: the merge tree, with the loss on the vertical axis."""
    count = len(tree.leaves)
    joined = f"They meet in {len(tree.joins)} joins" + (
        f", the highest at {number(tree.joins[-1].height)}." if tree.joins else "."
    )
    apart = f" {len(tree.roots)} parts are not connected yet." if len(tree.roots) > 1 else ""
    rows = [
        *((n, "minimum", str(leaf.minimum), leaf.loss, "") for n, leaf in enumerate(tree.leaves)),
        *(
            (n, "join", "–".join(map(str, join.saddle)), join.height, _listed(join.children))
            for n, join in enumerate(tree.joins, start=count)
        ),
    ]
    names = ("node", "kind", "minimum or pair", "loss", "joins nodes")
    return Figure(
        name="disconnectivity-graph",
        title="Disconnectivity graph",
        caption=(
            "Each lower end is a minimum at its loss. Going up, two basins become one at the lowest "
            "pass between them (Becker & Karplus 1997). The horizontal order has no meaning: it is "
            "chosen so that no lines cross."
        ),
        alt=f"Disconnectivity graph of {count} minima. {joined}{apart}",
        table=table_of(names, rows),
        draw=partial(_draw_tree, tree),
    )


def verified_tree_figure(losses: Mapping[int, float], network: TransitionNetwork) -> Figure:
    """The disconnectivity graph of verified saddles only.

    Args:
        losses: losses of the minima of the run, by number.
        network: the verified saddles between them.
    """
    heights = {pair: transition.loss for pair, transition in network.lowest.items()}
    return replace(
        tree_figure(merge_tree(losses, heights)),
        name="disconnectivity-graph-verified",
        title="Disconnectivity graph of verified saddles",
        caption=(
            "As above, but joined only at stationary points that are proved to have index 1, each the "
            "highest point of a path between two minima of the run, or with descents to both. Minima that "
            "no such saddle joins are not connected."
        ),
    )


def _listed(nodes: tuple[int, int]) -> str:
    return f"{nodes[0]} {nodes[1]}"


def _draw_tree(tree: MergeTree, wide: bool) -> Drawing:
    figure = Drawing(figsize=(WIDE if wide else NARROW, 3.6))
    ax = figure.subplots()
    across = tree.horizontal_positions()
    levels = [*(leaf.loss for leaf in tree.leaves), *(join.height for join in tree.joins)]
    count = len(tree.leaves)
    lines = []
    for join in tree.joins:
        left, right = join.children
        lines.append([(across[left], levels[left]), (across[left], join.height)])
        lines.append([(across[right], levels[right]), (across[right], join.height)])
        lines.append([(across[left], join.height), (across[right], join.height)])
    log = spans_decades(levels)
    low, high = min(levels), max(levels)
    top = high * (high / low) ** 0.08 if log else high + 0.08 * (high - low or abs(high) or 1.0)
    lines += [[(across[root], levels[root]), (across[root], top)] for root in tree.roots]
    many = count > 5 * LABELLED
    ax.add_collection(
        LineCollection(lines, colors=INK, linewidths=0.5 if many else 1.1, rasterized=many)
    )
    ax.plot(across[:count], levels[:count], "o", color=FIRST, ms=2 if many else 4, rasterized=many)
    ax.plot([across[0]], [levels[0]], "o", color=SECOND, ms=6)
    ax.set_xlim(-0.7, count - 0.3)
    ax.margins(y=0.06)
    ax.autoscale(axis="y")
    ax.spines["bottom"].set_visible(False)
    if count <= LABELLED:
        order = sorted(range(count), key=lambda node: across[node])
        ax.set_xticks(range(count), [str(tree.leaves[node].minimum) for node in order])
        ax.tick_params(axis="x", length=0)
        ax.set_xlabel("minimum")
    else:
        ax.set_xticks([])
        ax.set_xlabel(f"{count} minima")
    ax.set_ylabel("training loss")
    ax.grid(axis="y")
    ax.set_axisbelow(True)
    if log:
        log_axis(ax, "y")
    return figure


def matrix_figure(
    tree: MergeTree, losses: Mapping[int, float], heights: Mapping[Pair, float]
) -> Figure:
    """The matrix of pass heights, with the minima in the order of the disconnectivity graph."""
    across = tree.horizontal_positions()
    nodes = sorted(range(len(tree.leaves)), key=lambda node: across[node])
    order = [tree.leaves[node].minimum for node in nodes]
    row_of = {minimum: k for k, minimum in enumerate(order)}
    count = len(order)
    matrix = np.full((count, count), np.nan)
    for (i, j), height in heights.items():
        if math.isfinite(height):
            matrix[row_of[i], row_of[j]] = matrix[row_of[j], row_of[i]] = height
    for minimum, k in row_of.items():
        matrix[k, k] = losses[minimum]
    known = sorted(heights.items())
    possible = count * (count - 1) // 2
    values = [height for _, height in known]
    between = f" from {number(min(values))} to {number(max(values))}" if values else ""
    return Figure(
        name="pass-heights",
        title="Heights of the passes",
        caption=(
            "Each cell is the highest loss on the best path between two minima, and the diagonal "
            "their own losses. The minima are in the order of the disconnectivity graph, so that "
            "basins show as blocks. Hatched cells have no path."
        ),
        alt=f"Matrix of the heights of {len(known)} of {possible} passes{between}.",
        table=Table(
            {
                "i": [i for (i, _), _ in known],
                "j": [j for (_, j), _ in known],
                "height": values,
            }
        ),
        draw=partial(_draw_matrix, matrix, tuple(order)),
    )


def _draw_matrix(matrix: np.ndarray, order: tuple[int, ...], wide: bool) -> Drawing:
    figure = Drawing(figsize=(5.0, 4.2) if wide else (NARROW, 4.2))
    ax = figure.subplots()
    ax.set_facecolor(MISSING)
    # The colour map contains grey, so grey alone would not mark a missing value.
    ax.patch.set(hatch="////", edgecolor=MUTED, linewidth=0)
    known = matrix[np.isfinite(matrix)]
    log = spans_decades(known.tolist())
    span = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    norm = LogNorm(*span) if log else Normalize(*span)
    image = ax.imshow(
        np.ma.masked_invalid(matrix), cmap=SEQUENTIAL, norm=norm, interpolation="none"
    )
    count = len(order)
    if count <= 24:
        ax.set_xticks(range(count), [str(m) for m in order])
        ax.set_yticks(range(count), [str(m) for m in order])
    else:
        ax.set_xticks([])
        ax.set_yticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    label = "minimum" if count <= 24 else f"{count} minima, as in the graph"
    ax.set(xlabel=label, ylabel=label)
    bar = figure.colorbar(
        image,
        ax=ax,
        shrink=0.85,
        label="height (training loss)",
        orientation="vertical" if wide else "horizontal",
    )
    if log:
        log_axis(bar.ax, "y" if wide else "x")
    bar.outline.set_visible(False)
    return figure
