"""Distances between the barcodes and between the merge trees of several runs."""

import itertools
import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.figure import Figure as Drawing

from orchestrator.report.comparison.compared_runs import Compared
from orchestrator.report.figure import Figure, table_of
from orchestrator.report.groups import wrapped
from orchestrator.report.style import (
    INK,
    NARROW,
    SEQUENTIAL,
    WIDE,
    number,
)
from topo_core.homology.bottleneck_distance import bottleneck
from topo_core.homology.merge_tree_distance import interleaving_bound
from topo_core.homology.merge_trees import merge_tree


def distances(runs: Sequence[Compared]) -> np.ndarray:
    """Bottleneck distances between the elder barcodes of n runs: [n, n], in units of the loss."""
    matrix = np.zeros((len(runs), len(runs)))
    for (i, a), (j, b) in itertools.combinations(enumerate(runs), 2):
        apart = bottleneck(a.landscape.barcodes["elder"], b.landscape.barcodes["elder"])
        matrix[i, j] = matrix[j, i] = apart
    return matrix


def tree_distances(runs: Sequence[Compared]) -> np.ndarray:
    """Upper bounds of the interleaving distances between the merge trees of n runs: [n, n].

    In units of the loss. NaN for two runs with different numbers of minima, because their minima cannot be
    matched one to one.
    """
    trees = [merge_tree(item.landscape.losses, item.landscape.heights) for item in runs]
    matrix = np.zeros((len(runs), len(runs)))
    for (i, a), (j, b) in itertools.combinations(enumerate(trees), 2):
        equal = len(a.leaves) == len(b.leaves)
        matrix[i, j] = matrix[j, i] = interleaving_bound(a, b) if equal else math.nan
    return matrix


def tree_distances_figure(runs: Sequence[Compared]) -> Figure | None:
    """The distances between the merge trees; None if no two runs have the same number of minima."""
    matrix = tree_distances(runs)
    pairs = list(itertools.combinations(range(len(runs)), 2))
    if all(math.isnan(matrix[pair]) for pair in pairs):
        return None
    rows = [(runs[i].label, runs[j].label, float(matrix[i, j])) for i, j in pairs]
    words = "; ".join(f"{a} and {b}: {number(d)}" for a, b, d in rows[:10] if not math.isnan(d))
    return Figure(
        name="merge-tree-distances",
        title="Distances between the merge trees",
        caption=(
            "Upper bound of the interleaving distance of the merge trees, in units of the loss: the "
            "largest difference of the heights at which two minima become one basin, for the matching of "
            "minima that makes it smallest. It is never smaller than the bottleneck distance; where it is "
            "larger, basins with the same bars merge in another order. Runs with different numbers of minima "
            "are left out."
        ),
        alt=f"Distances between {len(runs)} merge trees. {words}.",
        table=table_of(("run", "other run", "merge tree distance"), rows),
        draw=partial(_draw_distances, matrix, [item.label for item in runs]),
    )


def distances_figure(runs: Sequence[Compared]) -> Figure:
    """The bottleneck distances between the barcodes."""
    matrix = distances(runs)
    rows = [
        (runs[i].label, runs[j].label, float(matrix[i, j]))
        for i, j in itertools.combinations(range(len(runs)), 2)
    ]
    words = "; ".join(f"{a} and {b}: {number(d)}" for a, b, d in rows[:10])
    return Figure(
        name="bottleneck-distances",
        title="Distances between the barcodes",
        caption=(
            "Bottleneck distance (L∞) between the elder barcodes, in units of the loss: how far bars must "
            "be moved to turn one barcode into the other. Infinite bars are matched by birth, so the "
            "lowest losses count; different numbers of infinite bars are infinitely far apart."
        ),
        alt=f"Bottleneck distances between {len(runs)} barcodes. {words}.",
        table=table_of(("run", "other run", "bottleneck distance"), rows),
        draw=partial(_draw_distances, matrix, [item.label for item in runs]),
    )


def _draw_distances(matrix: np.ndarray, labels: Sequence[str], wide: bool) -> Drawing:
    size = min(WIDE if wide else NARROW, 2.0 + 0.6 * len(labels))
    figure = Drawing(figsize=(max(size, NARROW), max(2.6, size * 0.8)))
    ax = figure.subplots()
    finite = np.where(np.isfinite(matrix), matrix, np.nan)
    image = ax.imshow(np.ma.masked_invalid(finite), cmap=SEQUENTIAL, vmin=0)
    ax.set_facecolor("none")
    short = [wrapped(label, 12) for label in labels]
    ax.set_xticks(range(len(labels)), short, rotation=90 if len(labels) > 4 else 0)
    ax.set_yticks(range(len(labels)), short)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    middle = np.nanmax(finite) / 2
    if len(labels) <= 10:
        for i, j in itertools.product(range(len(labels)), repeat=2):
            dark = not math.isfinite(matrix[i, j])
            colour = INK if dark else "#ffffff" if matrix[i, j] <= middle else "#101010"
            text = "" if math.isnan(matrix[i, j]) else number(matrix[i, j])
            ax.text(j, i, text, ha="center", va="center", color=colour, fontsize=7)
    figure.colorbar(image, ax=ax, shrink=0.8, label="distance").outline.set_visible(False)
    return figure
