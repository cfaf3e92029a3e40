"""Minima and the passes between them as arrays: what barcodes and merge trees are computed from.

Minima are put in the total order (loss, id), which also settles ties, and are known by their
rank in it from then on. Passes are put in the total order (height, higher end, lower end).
Everything that is read off them is then unique, whatever the order of the input.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Minimum = Any  # any hashable whose values can be ordered; equal ids are the same minimum
Pair = tuple[Minimum, Minimum]
Heights = Mapping[Pair, float] | NDArray[np.float64]

_DENSE = 8  # edges beyond this many times the minima are first thinned to a spanning tree


@dataclass(frozen=True)
class Passes:
    """Checked input.

    Attributes:
        ids: of the minima by rank, lowest first.
        births: [n], their losses, increasing.
        heights: [m], of the passes.
        high, low: [m], ranks of the two ends of each pass, high > low.
        pairs: their ids as they were given, where ids came as a mapping; None for a matrix.
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
    def dense(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Heights [n, n] by rank, infinite where there is no pass, and the indices of the passes."""
        count = len(self.ids)
        weights = np.full((count, count), np.inf)
        index = np.full((count, count), -1, dtype=np.int64)
        # Of two passes of one pair, (i, j) and (j, i), the first in the total order comes last.
        order = np.argsort(self.heights, kind="stable")[::-1]
        high, low = self.high[order], self.low[order]
        weights[high, low] = weights[low, high] = self.heights[order]
        index[high, low] = index[low, high] = order
        return weights, index

    def sorted(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """The passes ``chosen`` in the total order."""
        order = np.lexsort((self.low[chosen], self.high[chosen], self.heights[chosen]))
        found: NDArray[np.int64] = chosen[order]
        return found


def check_passes(losses: Sequence[float] | Mapping[Minimum, float], heights: Heights) -> Passes:
    """The input of ``barcode`` and ``merge_tree`` as arrays.

    Raises:
        ValueError: losses or heights that are no numbers, or of a wrong shape; a loss is not
            finite; a height names an unknown minimum, joins one to itself,
            is not a number, or is below one of its ends.
    """
    births = _births(losses)
    try:
        ids = sorted(births, key=lambda minimum: (births[minimum], minimum))
    except TypeError:
        raise ValueError(
            "two minima have the same loss and ids that have no order; give ids of one kind."
        ) from None
    rank = {minimum: place for place, minimum in enumerate(ids)}
    values = np.array([births[minimum] for minimum in ids], dtype=np.float64)
    if isinstance(heights, Mapping):
        pairs = list(heights)
        found = numbers(list(heights.values()), "heights")
        first, second = _ranks(pairs, rank)
    else:
        pairs = None
        first, second, found = _of_matrix(numbers(heights, "heights"), rank)
    passes = Passes(ids, values, found, np.maximum(first, second), np.minimum(first, second), pairs)
    _check_heights(passes)
    return passes


def numbers(values: object, name: str) -> NDArray[np.float64]:
    """``values`` (nested sequences, an array, a tensor on the CPU) as an array of float64.

    Raises:
        ValueError: where they are no numbers, or rows of unequal lengths.
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
            "a key of heights is no pair of ids; name each pass by the two minima that it joins."
        ) from None
    return both[:, 0], both[:, 1]


def _of_matrix(
    matrix: NDArray[np.float64], rank: Mapping[Hashable, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    count = len(rank)
    if matrix.shape != (count, count) or set(rank) != set(range(count)):
        raise ValueError(
            f"heights is an array of shape {matrix.shape} for {count} minima; it must be square, "
            "one row a minimum, with losses given in the order of its rows."
        )
    i, j = np.triu_indices(count, k=1)
    upper, lower = matrix[i, j], matrix.T[i, j]
    if not np.array_equal(upper, lower, equal_nan=True):
        place = int(np.flatnonzero(~((upper == lower) | (np.isnan(upper) & np.isnan(lower))))[0])
        raise ValueError(
            f"heights[{i[place]}, {j[place]}] is {upper[place]} and its mirror image is "
            f"{lower[place]}; the array must be symmetric."
        )
    known = upper != np.inf  # missing; a NaN goes on and is refused
    places = np.array([rank[index] for index in range(count)], dtype=np.int64)
    return places[i[known]], places[j[known]], upper[known]


def _check_heights(passes: Passes) -> None:
    loops = np.flatnonzero(passes.high == passes.low)
    if len(loops):
        end = passes.ids[int(passes.low[loops[0]])]
        raise ValueError(
            f"heights joins the minimum {end!r} to itself; a pass has two ends, leave it out."
        )
    wrong = np.flatnonzero(~(passes.heights >= passes.births[passes.high]))
    if len(wrong):
        a, b = passes.pair(int(wrong[0]))
        ends = passes.births[passes.low[wrong[0]]], passes.births[passes.high[wrong[0]]]
        raise ValueError(
            f"the height of the pass ({a!r}, {b!r}) is {passes.heights[wrong[0]]}; it must be a "
            f"number not below the losses of its ends, {ends[0]} and {ends[1]}, which are points "
            "of the path."
        )


@dataclass(frozen=True)
class Merge:
    """Two components of the sublevel set become one.

    Attributes:
        height: at which they meet.
        elder, younger: ranks of the lowest minima of the two, elder < younger.
        index: of the pass that joins them, in ``Passes``.
    """

    height: float
    elder: int
    younger: int
    index: int


def merges(passes: Passes, *, without: int | None = None) -> list[Merge]:
    """The merges in the order in which they happen: Kruskal's algorithm with the elder rule.

    ``without`` is the rank of a minimum that is left out with its passes.
    """
    chosen = passes.sorted(_thinned(passes, without))
    # Roots are the lowest minima of their components, because the younger is hung below.
    parent = list(range(len(passes.ids)))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    found = []
    ends = zip(
        chosen.tolist(),
        passes.heights[chosen].tolist(),
        passes.high[chosen].tolist(),
        passes.low[chosen].tolist(),
        strict=True,
    )
    for index, height, high, low in ends:
        if height == np.inf:
            break
        elder, younger = sorted((root(high), root(low)))
        if elder != younger:
            parent[younger] = elder
            found.append(Merge(height, elder, younger, index))
    return found


def _thinned(passes: Passes, without: int | None) -> NDArray[np.int64]:
    """Indices of passes among which are all that merge anything.

    With many passes these are a spanning forest, found in time n² without sorting.
    """
    if len(passes.heights) <= _DENSE * len(passes.ids):
        everything = np.arange(len(passes.heights))
        if without is None:
            return everything
        kept = (passes.low != without) & (passes.high != without)
        return np.flatnonzero(kept)
    weights, index = passes.dense
    outside = np.ones(len(passes.ids), dtype=bool)
    if without is not None:
        outside[without] = False
    return _prim(weights, index, outside)


def _prim(
    weights: NDArray[np.float64], index: NDArray[np.int64], outside: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Prim's spanning forest over the minima in ``outside``: entries of ``index`` [n, n].

    By the total order of passes it is the forest that Kruskal's algorithm would find.
    """
    count = len(weights)
    everything = np.arange(count)
    best = np.full(count, np.inf)  # height of the lowest pass from the tree to each minimum
    code = np.full(count, np.iinfo(np.int64).max)  # and its place among those of equal height
    via = np.full(count, -1, dtype=np.int64)
    chosen: list[int] = []
    here = -1
    for _ in range(int(outside.sum())):
        candidates = np.where(outside, best, np.inf)
        height = candidates.min()
        if height < np.inf:
            level = np.flatnonzero(candidates == height)
            here = int(level[np.argmin(code[level])])
            chosen.append(int(via[here]))
        else:  # nothing is reached from here: start the next tree
            here = int(np.argmax(outside))
        outside[here] = False
        codes = np.maximum(everything, here) * count + np.minimum(everything, here)
        row = weights[here]
        better = outside & ((row < best) | ((row == best) & (codes < code)))
        best[better], code[better], via[better] = row[better], codes[better], index[here][better]
    return np.array(chosen, dtype=np.int64)
