"""The highest loss on optimised simplices: the value at which each enters the filtration.

Between its nodes a simplex is linear, and the loss between the nodes is not known from the nodes. As
on a path, an even grid finds the places that may hold the maximum, and the grid is halved around
the best of them until the slopes beside them cannot carry the loss higher.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective
from topo_core.simplices.lattice import Lattice, lattice, samples

_BEAM = 96  # places of a simplex that are followed at once
_ROUNDS = 14
_COVER = 1.0  # no place is further than 0.75 steps from a sample, for r up to 3; and a reserve
_ROWS = 256  # points materialised at once


@dataclass(frozen=True)
class SimplexProfile:
    """The dense maximum of one simplex.

    Attributes:
        maximum: the highest loss that was evaluated on it, its boundary included.
        minimum: the lowest.
        bracket: by how much the slopes between the samples could still raise it (or the floor).
        argmax: [r + 1] float64, barycentric coordinates of that place, with sum 1.
        evaluations: points at which the loss was evaluated.
    """

    maximum: float
    minimum: float
    bracket: float
    argmax: Tensor
    evaluations: int


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
        points: the places of the nodes, in the order of the lattice.
        nodes: the lattice.
        grid: samples on an edge of a cell at first.
        tolerance: refinement stops when it cannot change the maximum by more than this fraction
            of the range of losses on the simplex.
        floors: of each simplex the highest loss known on its faces; what cannot be higher than
            that is not refined.
    """
    r = nodes.dimension
    losses = _grid_losses(objective, points, nodes, grid)
    fine = lattice(r, nodes.subdivisions * grid).coordinates.to(torch.float64) / grid
    around = losses[:, _around(r, nodes.subdivisions * grid)]  # itself where there is none
    change = (losses[:, :, None] - around).abs().amax(2)
    reach = (losses + _COVER * change).nan_to_num(nan=torch.inf)
    best = reach.topk(min(_BEAM, reach.shape[1] - 1), dim=1)
    search = _Search(
        objective,
        points,
        nodes,
        losses,
        fine[best.indices],
        losses.gather(1, best.indices),
        best.values,
        reach.scatter(1, best.indices, -torch.inf).amax(1),
        torch.tensor(floors or [-torch.inf] * len(points), dtype=torch.float64),
        tolerance,
        0.5 / grid,
    )
    search.run()
    return search.profiles()


class _Search:
    """The places [s, b] of each simplex beside which the loss may be highest, and their reach.

    Of a place and its neighbours at half the step, those stay that may still hold the maximum: by
    their loss and the largest change of the loss to any neighbour.
    """

    def __init__(
        self,
        objective: Objective,
        points: Tensor,
        nodes: Lattice,
        losses: Tensor,
        centre: Tensor,
        value: Tensor,
        reach: Tensor,
        dropped: Tensor,
        floors: Tensor,
        tolerance: float,
        step: float,
    ) -> None:
        self.objective, self.points, self.nodes = objective, points, nodes
        self.centre, self.value, self.reach = centre, value, reach
        self.dropped, self.floors = dropped, floors
        self.lowest, self.highest = losses.amin(1), losses.amax(1)
        self.allowed = tolerance * (self.highest - self.lowest)
        top = losses.argmax(1)
        fine = lattice(nodes.dimension, round(nodes.subdivisions * 0.5 / step)).coordinates
        self.argmax = fine[top].to(torch.float64) * 2 * step
        self.step = step
        self.spent = torch.full((len(points),), losses.shape[1])
        steps = []
        for i, j in permutations(range(nodes.dimension + 1), 2):
            move = torch.zeros(nodes.dimension + 1, dtype=torch.float64)
            move[i], move[j] = 1.0, -1.0
            steps.append(move)
        self.moves = torch.stack(steps)

    def _enough(self) -> Tensor:
        """[s], what a place must be able to exceed to be looked at."""
        return torch.maximum(self.highest, self.floors) + self.allowed

    def run(self) -> None:
        for _ in range(_ROUNDS):
            wanted = self.reach.amax(1) > self._enough()
            rows = torch.nonzero(wanted & self.highest.isfinite()).flatten()
            if not len(rows):
                return
            self._round(rows)
            self.step *= 0.5

    def _round(self, rows: Tensor) -> None:
        """Halve the step around the places of the simplices ``rows`` that matter."""
        centre, value = self.centre[rows], self.value[rows]
        alive = self.reach[rows] > self._enough()[rows, None]
        around = centre[:, :, None] + self.step * self.moves  # [s, b, moves, r + 1]
        inside = (around >= 0).all(3) & alive[:, :, None]
        places, weights = self.nodes.interpolation(around[inside])
        local = torch.nonzero(inside)[:, 0]
        losses = torch.full(inside.shape, torch.nan, dtype=torch.float64)
        losses[inside] = _at(self.objective, self.points, rows[local], places, weights)
        self.spent[rows] += inside.sum((1, 2))
        change = (losses - value[:, :, None]).abs().nan_to_num(nan=0.0).amax(2)
        # A place keeps its own reach, or gives way to what its neighbours have shown.
        reach = torch.where(alive, value + _COVER * change, self.reach[rows])
        new = (losses + _COVER * change[:, :, None]).nan_to_num(nan=-torch.inf)
        centres = torch.cat([centre, around.flatten(1, 2)], dim=1)
        values = torch.cat([value, losses.nan_to_num(nan=-torch.inf).flatten(1)], dim=1)
        reaches = _without_repeats(centres, torch.cat([reach, new.flatten(1)], dim=1), self.step)
        best = reaches.topk(self.value.shape[1], dim=1)
        self.centre[rows] = centres.gather(
            1, best.indices[..., None].expand(-1, -1, centres.shape[2])
        )
        self.value[rows] = values.gather(1, best.indices)
        self.reach[rows] = best.values
        rest = reaches.scatter(1, best.indices, -torch.inf).amax(1)
        self.dropped[rows] = torch.maximum(self.dropped[rows], rest)
        top, place = values.max(1)
        better = top > self.highest[rows]
        self.argmax[rows] = torch.where(
            better[:, None], centres[torch.arange(len(rows)), place], self.argmax[rows]
        )
        self.highest[rows] = torch.where(better, top, self.highest[rows])

    def profiles(self) -> list[SimplexProfile]:
        reach = torch.maximum(self.reach.amax(1), self.dropped)
        return [
            SimplexProfile(
                float(self.highest[s]),
                float(self.lowest[s]),
                max(0.0, float(reach[s] - self.highest[s])),
                self.argmax[s] / self.nodes.subdivisions,
                int(self.spent[s]),
            )
            for s in range(len(self.points))
        ]


def _grid_losses(objective: Objective, points: Tensor, nodes: Lattice, grid: int) -> Tensor:
    """Losses [s, k] at the samples of an even grid on simplices ``points`` [s, N, d]."""
    places, weights = samples(nodes.dimension, nodes.subdivisions, grid)
    count = len(places)
    owner = torch.arange(len(points)).repeat_interleave(count)
    losses = _at(
        objective, points, owner, places.repeat(len(points), 1), weights.repeat(len(points), 1)
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


def _at(
    objective: Objective, points: Tensor, owner: Tensor, places: Tensor, weights: Tensor
) -> Tensor:
    """Losses [k] (float64, on the CPU) at Σ weights points[owner, places]."""
    found = []
    for first in range(0, len(owner), _ROWS):
        rows = slice(first, first + _ROWS)
        corners = points[owner[rows, None], places[rows]]  # [chunk, r + 1, d]
        weight = weights[rows].to(corners)
        found.append(objective.losses(torch.einsum("kc,kcd->kd", weight, corners)).cpu())
    return torch.cat(found).to(torch.float64)


@lru_cache(maxsize=16)
def _around(dimension: int, subdivisions: int) -> Tensor:
    """[k, r (r + 1)], neighbours of all nodes; a node itself where a neighbour would be outside."""
    nodes = lattice(dimension, subdivisions)
    rows: list[Sequence[int]] = []
    for place, node in enumerate(nodes.coordinates.tolist()):
        row = []
        for i, j in permutations(range(dimension + 1), 2):
            moved = list(node)
            moved[i] += 1
            moved[j] -= 1
            row.append(nodes.place(tuple(moved), place))
        rows.append(row)
    return torch.tensor(rows)
