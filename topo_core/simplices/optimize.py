"""Optimised r-simplices (section 1.4): a surface between optimised faces is relaxed to a saddle.

The vertices of an r-simplex are minima, and its boundary consists of optimised (r-1)-simplices. Its interior
nodes, on a barycentric lattice, descend along the gradient minus its tangential part, as the points of a path
do. Simplices are made inductively: minima, paths, triangles between paths, ...

The value of a simplex is the highest loss on it and on its faces.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective
from topo_core.paths.convergence import Outcome
from topo_core.simplices.convergence import judge_simplex
from topo_core.simplices.faces import Face, simplex_boundary
from topo_core.simplices.profiles import SimplexProfile, measured_profiles
from topo_core.simplices.settings import SimplexSettings
from topo_core.simplices.solver import advance_simplices, begin_simplices
from topo_core.simplices.state import SimplexMeasure, SimplexState


@dataclass(frozen=True)
class SimplexSolution:
    """An optimised simplex.

    Attributes:
        points: [N, d], the nodes of ``topo_core.simplices.lattice.lattice(r, m)`` in its order.
        value: highest loss on the simplex and its faces, at which it enters the filtration.
        profile: the dense maximum of the simplex itself.
        outcome: CONVERGED, BUDGET, STALLED or DIVERGED; see ``SimplexVerdict``.
        remaining_fall: estimated further fall of the value, in units of loss.
        reason: the outcome explained in one sentence.
        history: measurements, oldest first.
        gradient_evaluations: rows whose gradient was evaluated.
    """

    points: Tensor
    value: float
    profile: SimplexProfile
    outcome: Outcome
    remaining_fall: float
    reason: str
    history: tuple[SimplexMeasure, ...]
    gradient_evaluations: int


def optimize_simplex(
    objective: Objective,
    vertices: Tensor,
    faces: Mapping[Face, Tensor],
    settings: SimplexSettings | None = None,
    *,
    seed: int = 0,
) -> SimplexSolution:
    """A low r-simplex with given vertices and faces, r of 2 or more.

    Args:
        objective: the loss.
        vertices: [r + 1, d], minima of the objective.
        faces: the optimised (r-1)-simplices by the positions of their vertices in ``vertices``,
            increasing. For r = 2 they are paths [k, d] of any number of points from the first
            vertex to the second: (0, 1), (0, 2) and (1, 2). For higher r they are the ``points``
            of solutions with the same number of subdivisions.
        settings: None for the defaults.
        seed: determines the order of the minibatches.

    Raises:
        ValueError: a face is missing, does not end at its vertices, or does not fit the lattice or the other
            faces.
    """
    settings = settings or SimplexSettings()
    faces_on_lattice = simplex_boundary(objective, vertices, faces, settings)
    floor = max(faces_on_lattice.maxima.values())
    states = begin_simplices(
        objective, [faces_on_lattice.points], [floor], len(vertices) - 1, settings
    )
    total = settings.total_epochs(objective.batches)
    states = advance_simplices(objective, states, settings, seed, until_epoch=total)
    return simplex_solutions(objective, states, settings)[0]


def simplex_solutions(
    objective: Objective, states: Sequence[SimplexState], settings: SimplexSettings
) -> list[SimplexSolution]:
    """The best simplices so far, measured, with the evidence for or against convergence."""
    if not states:
        return []
    points = torch.stack([state.best for state in states])
    profiles = measured_profiles(
        objective, points, states[0].nodes, [state.floor for state in states], settings
    )
    return [
        _solution(objective, state, profile, settings)
        for state, profile in zip(states, profiles, strict=True)
    ]


def _solution(
    objective: Objective, state: SimplexState, profile: SimplexProfile, settings: SimplexSettings
) -> SimplexSolution:
    verdict = judge_simplex(objective, state, profile, settings)
    return SimplexSolution(
        points=state.best,
        value=max(profile.maximum, state.floor),
        profile=profile,
        outcome=verdict.outcome,
        remaining_fall=verdict.remaining_fall,
        reason=verdict.reason,
        history=state.history,
        gradient_evaluations=state.gradient_evaluations,
    )
