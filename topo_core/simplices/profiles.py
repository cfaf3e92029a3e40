"""The highest loss on optimised simplices: the value at which each enters the filtration.

Between its nodes a simplex is linear, and the loss between nodes does not follow from the losses at
the nodes. As on a path, an even grid gives candidates for the maximum, and the grid is refined
around the best candidates until the slopes beside them cannot raise the loss above the maximum.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective
from topo_core.simplices.lattice import Lattice, lattice, samples
from topo_core.simplices.settings import SimplexSettings

_BEAM = 96  # number of candidates of a simplex that are refined at once
_ROUNDS = 14  # halvings of the step, to below 1e-4 of the first step
# in steps: for r up to 3 every point is within 0.75 steps of a sample; the rest is a margin
_COVER = 1.0
_ROWS = 256  # points materialised at once


@dataclass(frozen=True)
class SimplexProfile:
    """The dense maximum of one simplex.

    Attributes:
        maximum: the highest loss that was evaluated on it, its boundary included.
        minimum: the lowest loss that was evaluated on it.
        bracket: by how much the true maximum may exceed the measured one, in units of loss, estimated from
            the slopes between the samples.
        argmax: [r + 1] float64, barycentric coordinates of the maximum, with sum 1.
        evaluations: points at which the loss was evaluated.
    """

    maximum: float
    minimum: float
    bracket: float
    argmax: Tensor
    evaluations: int


def measured_profiles(
    objective: Objective,
    points: Tensor,
    nodes: Lattice,
    floors: Sequence[float],
    settings: SimplexSettings,
) -> list[SimplexProfile]:
    """``simplex_profiles`` of ``points`` [s, N, d] with the grid and the tolerance of ``settings``."""
    return simplex_profiles(
        objective,
        points,
        nodes,
        grid=settings.grid,
        tolerance=settings.height_tolerance,
        floors=floors,
    )


def simplex_profiles(
    objective: Objective,
    points: Tensor,
    nodes: Lattice,
    *,
    grid: int = 4,
    tolerance: float = 1e-4,
    floors: Sequence[float] | None = None,
) -> list[SimplexProfile]:
    """The dense maxima of simplices ``points`` [s, N, d], each on the lattice ``nodes``.

    Args:
        objective: the loss.
        points: the nodes of each simplex, in the order of the lattice.
        nodes: the lattice.
        grid: samples on an edge of a cell at first.
        tolerance: refinement stops when it cannot change the maximum by more than this fraction
            of the range of losses on the simplex.
        floors: of each simplex the highest loss known on its faces; candidates that cannot be higher
            than that are not refined.
    """
    search = _Search(objective, points, nodes, grid, tolerance)
    search.floors = torch.tensor(floors or [-math.inf] * len(points), dtype=torch.float64)
    search.run()
    return search.profiles()


class _Search:
    """Candidates for the maximum of each simplex, and how high the loss may be beside each of them.

    ``centre`` [s, b, r + 1] are the candidates, ``value`` [s, b] their losses, and ``reach`` [s, b]
    their losses plus the largest change of the loss to any neighbour. Of a candidate and its
    neighbours at half the step, those are kept that may still hold the maximum.
    """

    def __init__(
        self, objective: Objective, points: Tensor, nodes: Lattice, grid: int, tolerance: float
    ) -> None:
        self.objective, self.points, self.nodes = objective, points, nodes
        dimension, subdivisions = nodes.dimension, nodes.subdivisions
        losses = _grid_losses(objective, points, nodes, grid)
        fine = lattice(dimension, subdivisions * grid).coordinates.to(torch.float64)
        neighbours = losses[:, _neighbours(dimension, subdivisions * grid)]
        change = (losses[:, :, None] - neighbours).abs().amax(2)
        reach = (losses + _COVER * change).nan_to_num(nan=torch.inf)
        best = reach.topk(min(_BEAM, reach.shape[1] - 1), dim=1)
        self.centre, self.value = fine[best.indices] / grid, losses.gather(1, best.indices)
        self.reach = best.values
        self.dropped = reach.scatter(1, best.indices, -torch.inf).amax(1)  # of all other samples
        self.floors = torch.full((len(points),), -torch.inf, dtype=torch.float64)
        self.lowest, self.highest = losses.amin(1), losses.amax(1)
        self.allowed = tolerance * (self.highest - self.lowest)
        self.step = 0.5 / grid
        self.argmax = fine[losses.argmax(1)] * 2 * self.step
        self.evaluations = torch.full((len(points),), losses.shape[1])
        moves = []
        for i, j in permutations(range(dimension + 1), 2):
            move = torch.zeros(dimension + 1, dtype=torch.float64)
            move[i], move[j] = 1.0, -1.0
            moves.append(move)
        self.moves = torch.stack(moves)

    def _enough(self) -> Tensor:
        """[s], the reach above which a candidate is refined."""
        return torch.maximum(self.highest, self.floors) + self.allowed

    def run(self) -> None:
        """Refine until no candidate may be higher than the maximum, or the rounds are used up."""
        for _ in range(_ROUNDS):
            wanted = self.reach.amax(1) > self._enough()
            rows = torch.nonzero(wanted & self.highest.isfinite()).flatten()
            if not len(rows):
                return
            self._round(rows)
            self.step *= 0.5

    def _round(self, rows: Tensor) -> None:
        """Halve the step around the candidates of the simplices ``rows`` that matter."""
        centre, value = self.centre[rows], self.value[rows]
        refined = self.reach[rows] > self._enough()[rows, None]
        around = centre[:, :, None] + self.step * self.moves  # [s, b, moves, r + 1]
        inside = (around >= 0).all(3) & refined[:, :, None]
        corners, weights = self.nodes.interpolation(around[inside])
        owner = rows[torch.nonzero(inside)[:, 0]]
        losses = torch.full(inside.shape, torch.nan, dtype=torch.float64)
        losses[inside] = _losses_at(self.objective, self.points, owner, corners, weights)
        self.evaluations[rows] += inside.sum((1, 2))
        change = (losses - value[:, :, None]).abs().nan_to_num(nan=0.0).amax(2)
        # A candidate that is not refined keeps its reach; the others get that of the smaller step.
        reach = torch.where(refined, value + _COVER * change, self.reach[rows])
        new = (losses + _COVER * change[:, :, None]).nan_to_num(nan=-torch.inf)
        centres = torch.cat([centre, around.flatten(1, 2)], dim=1)
        values = torch.cat([value, losses.nan_to_num(nan=-torch.inf).flatten(1)], dim=1)
        reaches = _without_repeats(centres, torch.cat([reach, new.flatten(1)], dim=1), self.step)
        self._keep_best(rows, centres, values, reaches)

    def _keep_best(self, rows: Tensor, centres: Tensor, values: Tensor, reaches: Tensor) -> None:
        """Keep the candidates of the largest reach, and the highest loss of all."""
        best = reaches.topk(self.value.shape[1], dim=1)
        self.centre[rows] = centres.gather(
            1, best.indices[..., None].expand(-1, -1, centres.shape[2])
        )
        self.value[rows] = values.gather(1, best.indices)
        self.reach[rows] = best.values
        rest = reaches.scatter(1, best.indices, -torch.inf).amax(1)
        self.dropped[rows] = torch.maximum(self.dropped[rows], rest)
        top, candidate = values.max(1)
        better = top > self.highest[rows]
        self.argmax[rows] = torch.where(
            better[:, None], centres[torch.arange(len(rows)), candidate], self.argmax[rows]
        )
        self.highest[rows] = torch.where(better, top, self.highest[rows])

    def profiles(self) -> list[SimplexProfile]:
        """The profile of each simplex."""
        reach = torch.maximum(self.reach.amax(1), self.dropped)
        return [
            SimplexProfile(
                float(self.highest[s]),
                float(self.lowest[s]),
                max(0.0, float(reach[s] - self.highest[s])),
                self.argmax[s] / self.nodes.subdivisions,
                int(self.evaluations[s]),
            )
            for s in range(len(self.points))
        ]


def _grid_losses(objective: Objective, points: Tensor, nodes: Lattice, grid: int) -> Tensor:
    """Losses [s, k] at the samples of an even grid on simplices ``points`` [s, N, d]."""
    corners, weights = samples(nodes.dimension, nodes.subdivisions, grid)
    count = len(corners)
    owner = torch.arange(len(points)).repeat_interleave(count)
    losses = _losses_at(
        objective, points, owner, corners.repeat(len(points), 1), weights.repeat(len(points), 1)
    )
    return losses.reshape(len(points), count)


def _without_repeats(centres: Tensor, reach: Tensor, step: float) -> Tensor:
    """``reach`` [s, c] with all but one of equal ``centres`` [s, c, r + 1] at -infinity."""
    codes = torch.zeros(reach.shape, dtype=torch.int64)
    for axis in range(centres.shape[2] - 1):
        codes = codes * 1_000_003 + (centres[:, :, axis] / step).round().to(torch.int64)
    # Of equal codes the one with the largest reach comes first.
    by_reach = reach.argsort(dim=1, descending=True, stable=True)
    ordered = codes.gather(1, by_reach)
    by_code = ordered.argsort(dim=1, stable=True)
    grouped = ordered.gather(1, by_code)
    again = torch.zeros_like(grouped, dtype=torch.bool)
    again[:, 1:] = grouped[:, 1:] == grouped[:, :-1]
    repeats = torch.zeros_like(again).scatter(1, by_reach.gather(1, by_code), again)
    return reach.masked_fill(repeats, -torch.inf)


def _losses_at(
    objective: Objective, points: Tensor, owner: Tensor, corners: Tensor, weights: Tensor
) -> Tensor:
    """Losses [k] (float64, on the CPU) at Σ weights points[owner, corners]."""
    chunks = []
    for first in range(0, len(owner), _ROWS):
        rows = slice(first, first + _ROWS)
        at_corners = points[owner[rows, None], corners[rows]]  # [chunk, r + 1, d]
        weight = weights[rows].to(at_corners)
        chunks.append(objective.losses(torch.einsum("kc,kcd->kd", weight, at_corners)).cpu())
    return torch.cat(chunks).to(torch.float64)


@lru_cache(maxsize=16)
def _neighbours(dimension: int, subdivisions: int) -> Tensor:
    """[k, r (r + 1)], neighbours of all nodes; a node itself where a neighbour would be outside."""
    nodes = lattice(dimension, subdivisions)
    rows: list[Sequence[int]] = []
    for row, node in enumerate(nodes.coordinates.tolist()):
        around = []
        for i, j in permutations(range(dimension + 1), 2):
            moved = list(node)
            moved[i] += 1
            moved[j] -= 1
            around.append(nodes.row(tuple(moved), row))
        rows.append(around)
    return torch.tensor(rows)
