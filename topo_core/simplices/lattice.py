"""The barycentric lattice of an r-simplex: the nodes of an optimised simplex.

A node is an integer vector (a_0, ..., a_r) of nonnegative numbers with sum m. The nodes with a_j = 0 are
those on the face without vertex j, and they form the lattice of that face. Between the nodes a simplex is
linear on each cell of the edgewise subdivision (Edelsbrunner & Grayson 2000). On a face this is the
subdivision of the face, so simplices fit together along common faces.
"""

import itertools
import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True)
class Lattice:
    """The lattice of dimension r with m subdivisions.

    Attributes:
        dimension: r.
        subdivisions: m.
    """

    dimension: int
    subdivisions: int

    @cached_property
    def coordinates(self) -> Tensor:
        """[N, r + 1] of int64, all nodes. For r = 1 from vertex 0 to vertex 1."""
        r, m = self.dimension, self.subdivisions
        rows = [
            [*a[:-1], m - sum(a[:-1])]
            for a in itertools.product(range(m + 1), repeat=r + 1)
            if a[-1] == 0 and sum(a) <= m
        ]
        return torch.tensor(sorted(rows, reverse=True))

    @cached_property
    def _rows(self) -> dict[tuple[int, ...], int]:
        return {tuple(node): row for row, node in enumerate(self.coordinates.tolist())}

    def row(self, node: tuple[int, ...], otherwise: int = -1) -> int:
        """The row of ``node`` in ``coordinates``; ``otherwise`` for a node outside of the simplex."""
        return self._rows.get(node, otherwise)

    @cached_property
    def interior(self) -> Tensor:
        """The rows [I] of the nodes that are on no face."""
        return torch.nonzero((self.coordinates > 0).all(dim=1)).flatten()

    @cached_property
    def boundary(self) -> Tensor:
        """The rows [N - I] of the nodes on faces."""
        return torch.nonzero((self.coordinates == 0).any(dim=1)).flatten()

    def face(self, omitted: int) -> Tensor:
        """The rows of the nodes on the face without vertex ``omitted``, in the order of that face's
        lattice."""
        return torch.nonzero(self.coordinates[:, omitted] == 0).flatten()

    @cached_property
    def neighbours(self) -> Tensor:
        """The rows [I, r (r + 1)] of the neighbours of each interior node: one step towards i and away from
        j."""
        steps = list(itertools.permutations(range(self.dimension + 1), 2))
        rows = []
        for node in self.coordinates[self.interior].tolist():
            around = []
            for i, j in steps:
                moved = list(node)
                moved[i] += 1
                moved[j] -= 1
                around.append(self._rows[tuple(moved)])
            rows.append(around)
        return torch.tensor(rows).reshape(len(rows), len(steps))

    @cached_property
    def opposite(self) -> Tensor:
        """[I, r, 2], the two neighbours of each interior node along each of r directions."""
        steps = list(itertools.permutations(range(self.dimension + 1), 2))
        columns = [
            [steps.index((axis, 0)), steps.index((0, axis))]
            for axis in range(1, self.dimension + 1)
        ]
        return self.neighbours[:, torch.tensor(columns)]

    @cached_property
    def harmonic(self) -> Tensor:
        """[I, N - I] float64: interior nodes as means of the boundary.

        With these weights every interior node is the mean of its neighbours.
        """
        count = len(self.coordinates)
        laplacian = torch.zeros(len(self.interior), count, dtype=torch.float64)
        rows = torch.arange(len(self.interior))
        laplacian[rows, self.interior] = -float(self.neighbours.shape[1])
        ones = torch.ones(self.neighbours.shape, dtype=torch.float64)
        laplacian.scatter_add_(1, self.neighbours, ones)
        inner, outer = laplacian[:, self.interior], laplacian[:, self.boundary]
        weights: Tensor = torch.linalg.solve(inner, -outer)
        return weights

    def interpolation(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """The cells of ``points`` [k, r + 1] (float64, sums m): nodes and weights [k, r + 1].

        The sums c_j = a_0 + ... + a_j turn the lattice into the integer points c_0 <= c_1 <= ...
        <= m, and the cells into those of Kuhn's subdivision of the cube.
        """
        sums = points[:, :-1].cumsum(1).clamp(0, self.subdivisions)
        base = sums.floor()
        part = sums - base
        # The largest fraction steps first; of equal ones the later coordinate, so that the sums
        # stay in order.
        order = part.flip(1).argsort(dim=1, descending=True, stable=True)
        order = self.dimension - 1 - order
        falling = part.gather(1, order)
        edge = falling.new_ones(len(points), 1), falling.new_zeros(len(points), 1)
        ladder = torch.cat([edge[0], falling, edge[1]], dim=1)
        weights = ladder[:, :-1] - ladder[:, 1:]
        corner = base.to(torch.int64)
        corners = [corner]
        for step in range(self.dimension):
            corner = corner.scatter_add(1, order[:, step : step + 1], torch.ones_like(order[:, :1]))
            corners.append(corner)
        nodes = torch.stack([self._index(c) for c in corners], dim=1)
        return nodes, weights

    def _index(self, sums: Tensor) -> Tensor:
        """Nodes [k] from cumulative sums [k, r]; a node outside, whose weight is 0, gives 0."""
        m = self.subdivisions
        padded = torch.cat([sums, torch.full_like(sums[:, :1], m)], dim=1)
        rows = torch.cat([padded[:, :1], padded.diff(dim=1)], dim=1)
        return torch.tensor([self._rows.get(tuple(row), 0) for row in rows.tolist()])

    @cached_property
    def cells(self) -> Tensor:
        """[m^r, r + 1], the nodes of each cell."""
        centres = []
        r, m = self.dimension, self.subdivisions
        for corner in itertools.product(range(m), repeat=r):
            for order in itertools.permutations(range(r)):
                fractions = [0.0] * r
                for position, axis in enumerate(order):
                    fractions[axis] = (r - position) / (r + 1)
                sums = [c + f for c, f in zip(corner, fractions, strict=True)]
                if all(a <= b for a, b in itertools.pairwise([*sums, float(m)])):
                    centres.append([sums[0], *(b - a for a, b in itertools.pairwise([*sums, m]))])
        nodes, _ = self.interpolation(torch.tensor(centres, dtype=torch.float64))
        assert len(nodes) == math.prod([m] * r)
        return nodes


@lru_cache(maxsize=32)
def lattice(dimension: int, subdivisions: int) -> Lattice:
    """The lattice. Equal arguments return the same object, so its tables are computed once."""
    return Lattice(dimension, subdivisions)


@lru_cache(maxsize=16)
def samples(dimension: int, subdivisions: int, refinement: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights [k, r + 1] of a dense evaluation: ``refinement`` samples an edge of a cell.

    The samples are the nodes of the lattice with m * refinement subdivisions, in its order.
    """
    fine = lattice(dimension, subdivisions * refinement).coordinates
    return lattice(dimension, subdivisions).interpolation(fine.to(torch.float64) / refinement)
