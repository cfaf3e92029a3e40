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
        point: [d], the saddle.
        loss: loss at the saddle.
        gradient: [d], gradient at the saddle.
        values: lowest eigenvalues of the Hessian at the saddle, in increasing order.
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
        """The polyline [m, d] from the minimum ``node`` over the saddle to the other minimum."""
        near, far = self.sides if self.ends[0] == node else self.sides[::-1]
        return torch.cat([near.flip(0), far[1:]])


@dataclass
class TransitionGraph:
    """A graph whose nodes are minima and whose edges are saddles.

    Attributes:
        same: distance up to which two points count as one.
        minima: the minima, [d] each.
        losses: losses at the minima.
        edges: in the order in which they were found.
    """

    same: float
    minima: list[Tensor] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)

    def minimum(self, point: Tensor, loss: float) -> int:
        """The number of the minimum at ``point`` [d]; a minimum that is not known yet is added."""
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
        """The component label of each minimum in the graph whose edges are the saddles lower than
        ``below``."""
        low = [edge.ends for edge in self.edges if edge.loss < below]
        size = len(self.minima)
        i, j = np.array(low, dtype=np.int32).reshape(-1, 2).T  # SciPy before 1.17 takes no other
        graph = coo_array((np.ones(len(low)), (i, j)), shape=(size, size))
        labels: list[int] = connected_components(graph, directed=False)[1].tolist()
        return labels

    def route(self, start: int, end: int) -> list[Edge] | None:
        """The edges of the lowest route between two minima, in order; None if they are not joined.

        The highest saddle of the route is as low as possible, and the same holds for the parts on both sides
        of it.
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
    """The edges of ``tree``, a forest, on its path from ``start`` to ``end``, in order."""
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
