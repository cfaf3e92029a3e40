"""The graph of minima and passes as arrays: the input of barcodes and merge trees.

Minima are sorted by the total order (loss, id), which also settles ties, and are identified by
their rank in it. Passes are sorted by the total order (height, higher end, lower end). All
results are therefore unique and do not depend on the order of the input.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Minimum = Any  # any hashable whose values can be ordered; equal ids are the same minimum
Pair = tuple[Minimum, Minimum]
PassHeights = Mapping[Pair, float] | NDArray[np.float64]


@dataclass(frozen=True)
class MinimumGraph:
    """Checked minima and passes.

    Attributes:
        ids: of the minima by rank, lowest first.
        births: [n], their losses, increasing.
        heights: [m], of the passes.
        high, low: [m], ranks of the two ends of each pass, high > low.
        pairs: [m], the pairs as they were given, where heights came as a mapping; None for a
            matrix.
    """

    ids: Sequence[Minimum]
    births: NDArray[np.float64]
    heights: NDArray[np.float64]
    high: NDArray[np.int64]
    low: NDArray[np.int64]
    pairs: Sequence[Pair] | None

    def pair(self, index: int) -> Pair:
        """The ids of the ends of pass ``index``, as they were given (a matrix: i < j)."""
        if self.pairs is not None:
            return self.pairs[index]
        ends = self.ids[int(self.low[index])], self.ids[int(self.high[index])]
        return min(ends), max(ends)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """The passes of finite height, in the total order."""
        order = np.lexsort((self.low, self.high, self.heights))
        finite: NDArray[np.int64] = order[self.heights[order] < np.inf]
        return finite

    def order_without(self, rank: int | None) -> NDArray[np.int64]:
        """``order`` without the passes from the minimum of this rank."""
        if rank is None:
            return self.order
        kept: NDArray[np.int64] = self.order[
            (self.low[self.order] != rank) & (self.high[self.order] != rank)
        ]
        return kept


def checked_graph(
    losses: Sequence[float] | Mapping[Minimum, float], heights: PassHeights
) -> MinimumGraph:
    """The input of ``barcode`` and ``merge_tree`` as arrays.

    Raises:
        ValueError: losses or heights that are not numbers, or have a wrong shape; a loss is not
            finite; a height names an unknown minimum, joins one to itself, is not a number, or
            is below one of its ends.
    """
    births = _births(losses)
    try:
        ids = sorted(births, key=lambda minimum: (births[minimum], minimum))
    except TypeError:
        raise ValueError(
            "two minima have the same loss and ids that have no order; give ids of one kind."
        ) from None
    rank = {minimum: position for position, minimum in enumerate(ids)}
    values = np.array([births[minimum] for minimum in ids], dtype=np.float64)
    if isinstance(heights, Mapping):
        pairs = list(heights)
        given = numbers(list(heights.values()), "heights")
        first, second = _ranks(pairs, rank)
    else:
        pairs = None
        first, second, given = _of_matrix(numbers(heights, "heights"), rank)
    graph = MinimumGraph(
        ids, values, given, np.maximum(first, second), np.minimum(first, second), pairs
    )
    _check_heights(graph)
    return graph


def numbers(values: object, name: str) -> NDArray[np.float64]:
    """``values`` (nested sequences, an array, a tensor on the CPU) as an array of float64.

    Raises:
        ValueError: they are not numbers, or are rows of unequal lengths.
    """
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers, in rows of equal length: {error}") from None


def _births(losses: Sequence[float] | Mapping[Minimum, float]) -> dict[Minimum, float]:
    """The losses by id, checked."""
    ids: Sequence[Minimum]
    if isinstance(losses, Mapping):
        ids, values = list(losses), numbers(list(losses.values()), "losses")
    else:
        values = numbers(losses, "losses")
        ids = range(len(values)) if values.ndim else ()
    if values.ndim != 1:
        raise ValueError(
            f"losses has the shape {values.shape}; give one number for each minimum, or a mapping "
            "from ids to numbers."
        )
    births = dict(zip(ids, values.tolist(), strict=True))
    for minimum, loss in births.items():
        if not np.isfinite(loss):
            raise ValueError(
                f"losses has {loss} for the minimum {minimum!r}; losses must be finite, leave out "
                "a minimum whose training diverged."
            )
    return births


def _ranks(
    pairs: Sequence[Pair], rank: Mapping[Hashable, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    try:
        both = np.array([(rank[a], rank[b]) for a, b in pairs], dtype=np.int64).reshape(-1, 2)
    except KeyError as missing:
        raise ValueError(
            f"heights names the minimum {missing.args[0]!r}, which has no loss; give its loss, or "
            "leave out its passes."
        ) from None
    except (TypeError, ValueError):
        raise ValueError(
            "a key of heights is not a pair of ids; name each pass by the two minima that it joins."
        ) from None
    return both[:, 0], both[:, 1]


def _of_matrix(
    matrix: NDArray[np.float64], rank: Mapping[Hashable, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    count = len(rank)
    if matrix.shape != (count, count) or set(rank) != set(range(count)):
        raise ValueError(
            f"heights is an array of shape {matrix.shape} for {count} minima; it must be square, "
            "one row for each minimum, with losses given in the order of its rows."
        )
    i, j = np.triu_indices(count, k=1)
    upper, lower = matrix[i, j], matrix.T[i, j]
    if not np.array_equal(upper, lower, equal_nan=True):
        differs = int(np.flatnonzero(~((upper == lower) | (np.isnan(upper) & np.isnan(lower))))[0])
        raise ValueError(
            f"heights[{i[differs]}, {j[differs]}] is {upper[differs]} and its mirror image is "
            f"{lower[differs]}; the array must be symmetric."
        )
    known = upper != np.inf  # infinite is missing; a NaN goes on and is refused
    ranks = np.array([rank[index] for index in range(count)], dtype=np.int64)
    return ranks[i[known]], ranks[j[known]], upper[known]


def _check_heights(graph: MinimumGraph) -> None:
    loops = np.flatnonzero(graph.high == graph.low)
    if len(loops):
        end = graph.ids[int(graph.low[loops[0]])]
        raise ValueError(
            f"heights joins the minimum {end!r} to itself; a pass has two ends, leave it out."
        )
    wrong = np.flatnonzero(~(graph.heights >= graph.births[graph.high]))
    if len(wrong):
        a, b = graph.pair(int(wrong[0]))
        ends = graph.births[graph.low[wrong[0]]], graph.births[graph.high[wrong[0]]]
        raise ValueError(
            f"the height of the pass ({a!r}, {b!r}) is {graph.heights[wrong[0]]}; it must be a "
            f"number not below the losses of its ends, {ends[0]} and {ends[1]}, which are points "
            "of the path."
        )


@dataclass(frozen=True)
class Merge:
    """Two components of the sublevel set become one.

    Attributes:
        height: at which they meet.
        elder, younger: ranks of the lowest minima of the two, elder < younger.
        index: of the pass that joins them, in ``MinimumGraph``.
    """

    height: float
    elder: int
    younger: int
    index: int


def merges(graph: MinimumGraph, *, without: int | None = None) -> list[Merge]:
    """The merges in the order in which they happen: Kruskal's algorithm with the elder rule.

    ``without`` is the rank of a minimum that is left out with its passes.
    """
    from scipy.cluster.hierarchy import DisjointSet  # takes 0.2 s to import

    components = DisjointSet(range(len(graph.ids)))
    lowest = list(range(len(graph.ids)))  # of the component with this root, the lowest rank
    result = []
    for index in _spanning_forest(graph, without):
        roots = components[int(graph.high[index])], components[int(graph.low[index])]
        elder, younger = sorted(lowest[root] for root in roots)
        components.merge(*roots)
        lowest[components[elder]] = elder
        result.append(Merge(float(graph.heights[index]), elder, younger, index))
    return result


def _spanning_forest(graph: MinimumGraph, without: int | None) -> list[int]:
    """The passes that merge anything, in the total order: the minimum spanning forest.

    Positions in the total order serve as weights, so that equal heights leave nothing open.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    count, order = len(graph.ids), graph.order_without(without)
    # Of two passes of one pair, given as (i, j) and (j, i), the first in the order counts.
    _, first = np.unique(graph.high[order] * count + graph.low[order], return_index=True)
    order = order[np.sort(first)]
    # SciPy before 1.17 takes 32-bit positions alone.
    ends = np.stack([graph.high[order], graph.low[order]]).astype(np.int32)
    weights = csr_array(
        (np.arange(1.0, len(order) + 1), (ends[0], ends[1])),
        shape=(count, count),
    )
    chosen = np.sort(minimum_spanning_tree(weights).data).astype(np.int64) - 1
    forest: list[int] = order[chosen].tolist()
    return forest
