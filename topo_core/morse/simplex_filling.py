"""Optimised simplices with given boundaries, many at a time."""

from collections.abc import Sequence

from torch import Tensor

from topo_core.objectives.protocol import Objective
from topo_core.random_streams import seed_of
from topo_core.simplices.corner_starts import two_sided_starts
from topo_core.simplices.faces import SimplexBoundary
from topo_core.simplices.lattice import lattice
from topo_core.simplices.optimize import SimplexSolution, simplex_solutions
from topo_core.simplices.settings import SimplexSettings
from topo_core.simplices.solver import advance_simplices, begin_simplices

_ROWS = 1 << 23  # numbers in the nodes of simplices that are optimised together


def filled_simplices(
    objective: Objective,
    around: Sequence[SimplexBoundary],
    dimension: int,
    settings: SimplexSettings,
    seed: int,
    interiors: Sequence[Tensor] | None = None,
) -> list[SimplexSolution]:
    """Optimised simplices with given boundaries, many at a time, from ``interiors`` if given."""
    found: list[SimplexSolution] = []
    if not around:
        return found
    each = max(1, _ROWS // (around[0].points.shape[1] * (settings.subdivisions + 1) ** dimension))
    for first in range(0, len(around), each):
        part = around[first : first + each]
        states = begin_simplices(
            objective,
            [one.points for one in part],
            [max(one.maxima.values()) for one in part],
            dimension,
            settings,
            interiors and interiors[first : first + each],
        )
        states = advance_simplices(
            objective,
            states,
            settings,
            seed_of(seed, "simplices", dimension),
            until_epoch=settings.total_epochs(objective.batches),
        )
        found += simplex_solutions(objective, states, settings)
    return found


def lowest_triangles(
    objective: Objective, around: Sequence[SimplexBoundary], settings: SimplexSettings, seed: int
) -> list[SimplexSolution]:
    """For each boundary the lowest triangle of those from a harmonic start and from the sides."""
    nodes = lattice(2, settings.subdivisions)
    found = filled_simplices(objective, around, 2, settings, seed)
    open_ = [k for k, one in enumerate(found) if one.value > max(around[k].maxima.values())]
    sides = [(k, start) for k in open_ for start in two_sided_starts(around[k].points, nodes)]
    others = filled_simplices(
        objective,
        [around[k] for k, _ in sides],
        2,
        settings,
        seed,
        [start for _, start in sides],
    )
    for (k, _), other in zip(sides, others, strict=True):
        if other.value < found[k].value:
            found[k] = other
    return found


def height_margin(simplex: SimplexSolution) -> float:
    """By how much the loss on a simplex may exceed its value: the sampling error."""
    return max(0.0, simplex.profile.maximum + simplex.profile.bracket - simplex.value)
