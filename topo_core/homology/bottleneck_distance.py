"""The bottleneck distance between two barcodes (eq. 4)."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from topo_core.homology.barcodes import AnyBars, intervals

Points: TypeAlias = NDArray[np.float64]


def bottleneck(a: AnyBars, b: AnyBars) -> float:
    """The exact bottleneck distance, in units of the loss, with the L-infinity ground metric.

    Bars may be matched with each other or with the diagonal, where they have no length. Infinite
    bars are matched among themselves in the order of their births, and two barcodes with different
    numbers of them are infinitely far apart.

    This is not delegated to GUDHI because its result is wrong where bars tie, as those of many
    minima do (up to several times the distance; ``test_ties``), and Hera computes it up to a
    relative error only. The matchings themselves are SciPy's.

    Args:
        a, b: barcodes of any index, or rows (birth, death) as an array [m, 2] or a list.

    Raises:
        ValueError: rows that are not pairs of numbers, or with a death below the birth.
    """
    (one, one_births), (other, other_births) = _diagram(a), _diagram(b)
    if len(one_births) != len(other_births):
        return float("inf")
    apart = np.abs(one_births - other_births).max(initial=0.0)
    return float(max(apart, _finite(one, other)))


def _diagram(bars: AnyBars) -> tuple[Points, NDArray[np.float64]]:
    """The finite bars as points [m, 2] of (birth, death), and the sorted births of the others.

    Bars of no length are left out: they lie on the diagonal.
    """
    rows = [(bar.birth, bar.death) for bar in intervals(bars) if bar.birth < bar.death]
    points = np.array(rows, dtype=np.float64).reshape(-1, 2)
    finite = np.isfinite(points[:, 1])
    return points[finite], np.sort(points[~finite, 0])


def _finite(a: Points, b: Points) -> float:
    """The distance of two diagrams of finite bars.

    It is the distance of some pair, or of some bar from the diagonal, so bisection over these
    candidates finds it exactly.
    """
    to_diagonal = (a[:, 1] - a[:, 0]) / 2, (b[:, 1] - b[:, 0]) / 2
    rows, columns, costs = _useful_pairs(a, b, *to_diagonal)
    candidates = np.unique(np.concatenate([np.zeros(1), *to_diagonal, costs]))
    low, high = 0, len(candidates) - 1
    while low < high:
        middle = (low + high) // 2
        near = costs <= candidates[middle]
        pairs = rows[near], columns[near]
        if _matches(to_diagonal, pairs, candidates[middle]):
            high = middle
        else:
            low = middle + 1
    return float(candidates[low])


def _useful_pairs(
    a: Points, b: Points, a_to_diagonal: NDArray[np.float64], b_to_diagonal: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Rows of ``a``, rows of ``b`` and distances of the pairs that may be better than the diagonal.

    Most bars are short and most pairs far apart, so far fewer than all pairs are kept.
    """
    rows, columns, costs = [], [], []
    for row, (point, own) in enumerate(zip(a, a_to_diagonal, strict=True)):
        cost = np.abs(b - point).max(axis=1, initial=0.0)
        kept = np.flatnonzero(cost < np.maximum(b_to_diagonal, own))
        rows.append(np.full(len(kept), row))
        columns.append(kept)
        costs.append(cost[kept])
    empty = np.zeros(0, dtype=np.int64)
    return (
        np.concatenate([empty, *rows]),
        np.concatenate([empty, *columns]),
        np.concatenate([np.zeros(0), *costs]),
    )


def _matches(
    to_diagonal: tuple[NDArray[np.float64], NDArray[np.float64]],
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]],
    cost: float,
) -> bool:
    """Whether a matching of cost at most ``cost`` exists, given the pairs within that distance.

    The bars farther than that from the diagonal need partners. If one matching finds partners for
    those of ``a`` and another for those of ``b``, then a single one does for both (Mendelsohn and
    Dulmage 1958, theorem 1).
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    for own, other in ((0, 1), (1, 0)):
        farther = np.flatnonzero(to_diagonal[own] > cost)
        number = np.full(len(to_diagonal[own]), -1)
        number[farther] = np.arange(len(farther))
        wants = number[pairs[own]]
        within = wants >= 0
        if len(np.unique(wants[within])) < len(farther):
            return False
        # SciPy before 1.17 takes 32-bit positions alone.
        ends = np.stack([wants[within], pairs[other][within]]).astype(np.int32)
        graph = coo_array(
            (np.ones(within.sum(), dtype=np.int8), (ends[0], ends[1])),
            shape=(len(farther), len(to_diagonal[other])),
        )
        if (maximum_bipartite_matching(graph.tocsr(), perm_type="column") < 0).any():
            return False
    return True
