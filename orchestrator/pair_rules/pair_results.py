"""The results for the pairs of a run so far: floors, heights, failures, and the minimum spanning tree."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.pair_rules.path_requests import Pair, PathRequest
from topo_core.homology.minimum_graphs import checked_graph, merges

Floats = NDArray[np.float64]

NOT_DONE = -1
"""The rung of a pair without a path."""


class PairResults:
    """The results so far for the pairs of n minima.

    Args:
        losses: of the finished minima, by number.
        count: number n of all minima.
        rungs: number of rungs.

    Attributes:
        losses: [n], infinite for a minimum without a result.
        floors: [n, n], the higher loss of each pair, a lower bound for its pass.
        heights: [rungs, n, n], symmetric, infinite where no path is finished.
        failed: [n, n], symmetric: whether the path of the pair failed.
    """

    def __init__(self, losses: Mapping[int, float], count: int, rungs: int) -> None:
        self.losses = np.full(count, np.inf)
        for index, loss in losses.items():
            self.losses[index] = loss
        self.floors = np.maximum.outer(self.losses, self.losses)
        self.heights = np.full((rungs, count, count), np.inf)
        self.failed = np.zeros((count, count), dtype=bool)

    @property
    def count(self) -> int:
        """The number n of minima."""
        return len(self.losses)

    @property
    def top(self) -> int:
        """The last rung, which is the whole optimisation."""
        return len(self.heights) - 1

    def record_height(self, request: PathRequest, height: float) -> None:
        """Record the height of a request, at least the floor: the two minima belong to the path."""
        i, j = request.pair
        height = max(height, float(self.floors[i, j]))
        self.heights[request.rung, i, j] = self.heights[request.rung, j, i] = height

    def record_failure(self, pair: Pair) -> None:
        """Record that the path of a pair failed."""
        self.failed[pair] = self.failed[pair[::-1]] = True

    @property
    def best(self) -> Floats:
        """[n, n], the lowest known height of each pair over all rungs; infinite if there is none."""
        best: Floats = self.heights.min(axis=0)
        return best

    @property
    def rung(self) -> NDArray[np.int64]:
        """[n, n], the last finished rung of each pair, or NOT_DONE."""
        done = np.isfinite(self.heights)
        rungs = np.where(done.any(axis=0), self.top - done[::-1].argmax(axis=0), NOT_DONE)
        return rungs.astype(np.int64)

    @property
    def open(self) -> NDArray[np.bool_]:
        """[n, n], for i < j: pairs of finished minima whose path has neither finished nor failed."""
        there = np.isfinite(self.floors) & ~np.isfinite(self.best) & ~self.failed
        return np.triu(there, k=1)

    def undecided(self, tolerance: float) -> NDArray[np.bool_]:
        """[n, n], for i < j: pairs without a path that could move a bar by more than the tolerance.

        Failed pairs are included, because the height of their path is unknown.
        """
        unknown = np.isfinite(self.floors) & ~np.isfinite(self.best)
        unknown = np.triu(unknown, k=1)
        minimax = self.tree().minimax
        undecided: NDArray[np.bool_] = unknown & (self.floors + tolerance < minimax)
        return undecided

    def tree(self) -> "Tree":
        """The minimum spanning tree with respect to the best heights."""
        there = np.flatnonzero(np.isfinite(self.losses))
        best = self.best[np.ix_(there, there)]
        passes = checked_graph(self.losses[there].tolist(), best)
        return _tree(
            self.count,
            [
                (merge.height, int(there[i]), int(there[j]))
                for merge in merges(passes)
                for i, j in [passes.pair(merge.index)]
            ],
        )


@dataclass(frozen=True)
class Tree:
    """A minimum spanning tree.

    Attributes:
        edges: its pairs, lowest first.
        minimax: [n, n], the largest height on the route through the tree between two minima; infinite if
            the tree does not join them, and minus infinity on the diagonal.
        crossed: [n, n], the position in `edges` of the edge with that height; the number of edges if the
            tree does not join them.
    """

    edges: list[Pair]
    minimax: Floats
    crossed: NDArray[np.int64]


def _tree(count: int, merged: Iterable[tuple[float, int, int]]) -> Tree:
    """The tree of `count` minima from its edges (height, i, j), lowest first."""
    edges: list[Pair] = []
    minimax = np.full((count, count), np.inf)
    np.fill_diagonal(minimax, -np.inf)
    tree = list(merged)
    crossed = np.full((count, count), len(tree), dtype=np.int64)
    members = {i: np.array([i]) for i in range(count)}
    home = list(range(count))
    for number, (height, i, j) in enumerate(tree):
        edges.append((min(i, j), max(i, j)))
        a, b = members[home[i]], members.pop(home[j])
        for rows, columns in ((a, b), (b, a)):
            minimax[np.ix_(rows, columns)] = height
            crossed[np.ix_(rows, columns)] = number
        members[home[i]] = np.concatenate([a, b])
        for member in b:
            home[member] = home[i]
    return Tree(edges, minimax, crossed)
