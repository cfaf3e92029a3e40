"""A small graph of minima (nodes) and saddles of index 1 (edges), and its minimax routes."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor


@dataclass(frozen=True)
class Edge:
    """A saddle of index 1 and the descents on both of its sides.

    Attributes:
        point: [d].
        loss: there.
        gradient: [d], there.
        values: its lowest eigenvalues, increasing.
        ends: numbers of the two minima.
        sides: two polylines [m, d], each from the saddle to its minimum.
    """

    point: Tensor
    loss: float
    gradient: Tensor
    values: Tensor
    ends: tuple[int, int]
    sides: tuple[Tensor, Tensor]

    def other(self, node: int) -> int:
        """The minimum on the other side from ``node``."""
        return self.ends[1] if self.ends[0] == node else self.ends[0]

    def polyline(self, node: int) -> Tensor:
        """From the minimum ``node`` over the saddle to the other one."""
        near, far = self.sides if self.ends[0] == node else self.sides[::-1]
        return torch.cat([near.flip(0), far[1:]])


@dataclass
class TransitionGraph:
    """Nodes are minima, edges are saddles.

    Attributes:
        same: points closer than this are one.
        minima: [d] each.
        losses: of the minima.
        edges: in the order in which they were found.
    """

    same: float
    minima: list[Tensor] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)

    def minimum(self, point: Tensor, loss: float) -> int:
        """The number of the minimum at ``point``, a new one if it is not known."""
        if self.minima:
            distances = (torch.stack(self.minima) - point).norm(dim=1)
            nearest = int(distances.argmin())
            if float(distances[nearest]) <= self.same:
                return nearest
        self.minima.append(point)
        self.losses.append(loss)
        return len(self.minima) - 1

    def knows(self, saddle: Tensor) -> bool:
        """Whether there is an edge at ``saddle`` [d]."""
        return any(float((edge.point - saddle).norm()) <= self.same for edge in self.edges)

    def components(self, below: float) -> list[int]:
        """The component of each minimum, when only saddles lower than ``below`` join minima."""
        low = [edge.ends for edge in self.edges if edge.loss < below]
        size = len(self.minima)
        i, j = np.array(low, dtype=np.int32).reshape(-1, 2).T  # SciPy before 1.17 takes no other
        graph = coo_array((np.ones(len(low)), (i, j)), shape=(size, size))
        labels: list[int] = connected_components(graph, directed=False)[1].tolist()
        return labels

    def route(self, start: int, end: int) -> list[Edge] | None:
        """The edges of the lowest route between two minima, in order; None where they are not joined.

        Its highest saddle is as low as can be, and so are the others on both sides of it.
        """
        joined = list(range(len(self.minima)))
        tree = list[Edge]()
        for edge in sorted(self.edges, key=lambda edge: edge.loss):
            i, j = (joined[node] for node in edge.ends)
            if i != j:
                joined = [i if label == j else label for label in joined]
                tree.append(edge)
            if joined[start] == joined[end]:
                return _in_tree(tree, start, end)
        return [] if start == end else None


def _in_tree(tree: Sequence[Edge], start: int, end: int) -> list[Edge]:
    """The edges from ``start`` to ``end``, which a forest joins."""
    came: dict[int, Edge] = {}
    front = [start]
    while front:
        node = front.pop()
        for edge in tree:
            if node in edge.ends and edge is not came.get(node):
                other = edge.other(node)
                if other != start and other not in came:
                    came[other] = edge
                    front.append(other)
    route = list[Edge]()
    while end != start:
        route.append(came[end])
        end = came[end].other(end)
    return route[::-1]
