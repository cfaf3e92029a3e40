"""The distance of two merge trees, which can differ although their barcodes are equal.

Two trees can have equal barcodes although other basins merge first. The labelled interleaving distance
tells them apart: where the leaves of both trees carry the same labels it is the largest difference of their
matrices of merge heights, whose entry (i, j) is the height at which minima i and j become one basin, and
(i, i) the loss of i (Gasparovic, Munch, Oudot, Turner, Wang & Wang 2019, "Intrinsic interleaving distances
for merge trees"). The least labelled distance over all ways to label is the interleaving distance; over one
label a leaf it is an upper bound, and the bottleneck distance of the barcodes is a lower bound.
"""

import math
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from topo_core.homology.merge_trees import MergeTree

Floats = NDArray[np.float64]

ALL_LABELLINGS = 7
"""Largest number of leaves for which all labellings are tried, 5,040 of them; with more, swaps are."""


def merge_heights(tree: MergeTree) -> Floats:
    """[n, n], where each two leaves merge; infinite where they do not, and their losses on the diagonal.

    Rows are in the order of the leaves of the tree.
    """
    count = len(tree.leaves)
    heights = np.full((count, count), np.inf)
    np.fill_diagonal(heights, [leaf.loss for leaf in tree.leaves])
    members = {node: [node] for node in range(count)}
    for node, join in enumerate(tree.joins, start=count):
        first, second = (members.pop(child) for child in join.children)
        heights[np.ix_(first, second)] = heights[np.ix_(second, first)] = join.height
        members[node] = first + second
    return heights


def labelled_distance(first: Floats, second: Floats) -> float:
    """The labelled interleaving distance of two trees by their merge heights [n, n].

    Raises:
        ValueError: they have different numbers of labels.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"the trees have {len(first)} and {len(second)} labels; the labelled distance needs equal "
            "numbers"
        )
    if not len(first):
        return 0.0
    apart = np.isinf(first) != np.isinf(second)
    if apart.any():
        return math.inf
    together = np.isfinite(first)
    return float(np.abs(first[together] - second[together]).max())


def interleaving_bound(first: MergeTree, second: MergeTree) -> float:
    """An upper bound of the interleaving distance: the least labelled distance over one label a leaf.

    Args:
        first, second: trees with equal numbers of leaves.

    Raises:
        ValueError: they have different numbers of leaves.
    """
    one, other = merge_heights(first), merge_heights(second)
    count = len(one)
    distance = labelled_distance(one, other)  # leaves come in the order of their losses
    if count <= ALL_LABELLINGS:
        return min(
            (
                labelled_distance(one, _relabelled(other, order))
                for order in permutations(range(count))
            ),
            default=distance,
        )
    return _after_swaps(one, other, distance)


def _after_swaps(one: Floats, other: Floats, distance: float) -> float:
    """The distance after swaps of two labels, each the best one, until none lowers it."""
    order = list(range(len(one)))
    while True:
        best, swap = distance, None
        for i in range(len(order)):
            for j in range(i):
                swapped = order.copy()
                swapped[i], swapped[j] = order[j], order[i]
                found = labelled_distance(one, _relabelled(other, swapped))
                if found < best:
                    best, swap = found, swapped
        if swap is None:
            return distance
        distance, order = best, swap


def _relabelled(heights: Floats, order: "list[int] | tuple[int, ...]") -> Floats:
    relabelled: Floats = heights[np.ix_(order, order)]
    return relabelled
