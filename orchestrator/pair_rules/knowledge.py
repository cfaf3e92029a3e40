"""The results on the pairs of a run so far: floors, heights, failures, and their minimum spanning tree."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.pair_rules.orders import Order, Pair
from topo_core.homology.minimum_graphs import checked_graph, merges

Floats = NDArray[np.float64]

NOT_DONE = -1
"""The rung of a pair without a path."""


class Knowledge:
    """The results on the pairs of n minima.

    Attributes:
        losses: [n], infinite for a minimum without a result.
        floors: [n, n], the higher loss of each pair: no pass is lower.
        heights: [rungs, n, n], symmetric, infinite where not done.
        failed: [n, n], symmetric: pairs whose path failed.
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
        return len(self.losses)

    @property
    def top(self) -> int:
        return len(self.heights) - 1

    def learn(self, order: Order, height: float) -> None:
        """Record a height; the ends belong to the path, so it is never below the floor."""
        i, j = order.pair
        height = max(height, float(self.floors[i, j]))
        self.heights[order.rung, i, j] = self.heights[order.rung, j, i] = height

    def fail(self, pair: Pair) -> None:
        self.failed[pair] = self.failed[pair[::-1]] = True

    @property
    def best(self) -> Floats:
        """[n, n], the lowest height known of each pair."""
        best: Floats = self.heights.min(axis=0)
        return best

    @property
    def rung(self) -> NDArray[np.int64]:
        """[n, n], the highest rung done of each pair, or NOT_DONE."""
        done = np.isfinite(self.heights)
        rungs = np.where(done.any(axis=0), self.top - done[::-1].argmax(axis=0), NOT_DONE)
        return rungs.astype(np.int64)

    @property
    def open(self) -> NDArray[np.bool_]:
        """[n, n] with i < j: pairs whose path could be run and has not been on any rung."""
        there = np.isfinite(self.floors) & ~np.isfinite(self.best) & ~self.failed
        return np.triu(there, k=1)

    def undecided(self, tolerance: float) -> NDArray[np.bool_]:
        """[n, n] with i < j: pairs without a path that could still move a bar by more.

        Failed pairs are among them: without a path nothing is proved about its height.
        """
        unknown = np.isfinite(self.floors) & ~np.isfinite(self.best)
        unknown = np.triu(unknown, k=1)
        minimax = self.tree().minimax
        undecided: NDArray[np.bool_] = unknown & (self.floors + tolerance < minimax)
        return undecided

    def tree(self) -> "Tree":
        """The minimum spanning tree over the best heights."""
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
        minimax: [n, n], the height at which two minima are joined through the tree; infinite where
            they are not, and minus infinite on the diagonal.
        crossed: [n, n], which edge that is; the number of edges where they are not joined.
    """

    edges: list[Pair]
    minimax: Floats
    crossed: NDArray[np.int64]


def _tree(count: int, merged: Iterable[tuple[float, int, int]]) -> Tree:
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
