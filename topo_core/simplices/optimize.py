"""Optimised r-simplices (section 1.4): a surface spanned by optimised faces goes down to a pass.

An r-simplex has its vertices at minima and its boundary on the optimised (r-1)-simplices; its
interior is a sheet on a barycentric lattice that descends along the gradient minus its tangent
part, as a path does. Simplices are made inductively: minima, paths, triangles of paths, ...

The value of a simplex is the highest loss on it and on its faces. Paths become polygons of m + 1
points on the lattice; those polygons are the edges of the complex, and are measured again as such.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective
from topo_core.paths.convergence import Outcome, further_fall
from topo_core.paths.polyline import resample
from topo_core.paths.profiles import loss_profile
from topo_core.simplices.lattice import lattice
from topo_core.simplices.profiles import SimplexProfile
from topo_core.simplices.settings import SimplexSettings
from topo_core.simplices.solver import (
    SimplexMeasure,
    SimplexState,
    advance,
    advance_together,
    finished,
    init,
    profiles_of,
)

__all__ = [
    "Boundary",
    "SimplexMeasure",
    "SimplexProfile",
    "SimplexSettings",
    "SimplexSolution",
    "SimplexState",
    "advance",
    "advance_together",
    "boundary",
    "edge_nodes",
    "finished",
    "init",
    "known_maxima",
    "optimize_simplex",
    "solutions",
]

Face = tuple[int, ...]


@dataclass(frozen=True)
class SimplexSolution:
    """An optimised simplex.

    Attributes:
        points: [N, d], the nodes of ``topo_core.simplices.lattice.lattice(r, m)`` in its order.
        value: the highest loss on it, its faces included: where it enters the filtration.
        profile: the dense maximum of its own.
        outcome: CONVERGED, BUDGET (its value may still fall) or DIVERGED.
        remaining_fall: by how much its value would still fall, extrapolated.
        reason: one sentence.
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


@dataclass(frozen=True)
class Boundary:
    """The optimised faces of a simplex, on its lattice.

    Attributes:
        points: [N - I, d], the boundary nodes in lattice order.
        maxima: highest loss on each face as it lies on the lattice.
    """

    points: Tensor
    maxima: Mapping[Face, float]


def known_maxima(around: Boundary, found: SimplexSolution) -> dict[Face, float]:
    """The highest loss known on each face of an optimised simplex.

    Where the maximum of the simplex is on a face it is one of the face, too: the two searches may
    differ in the last digits, and that must not look like a bar.
    """
    count = len(found.profile.argmax)
    return {
        face: max(height, found.profile.maximum)
        if all(float(found.profile.argmax[v]) == 0 for v in range(count) if v not in face)
        else height
        for face, height in around.maxima.items()
    }


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
        settings: all defaults when None.
        seed: names the minibatches.

    Raises:
        ValueError: a face that is missing, or does not end at its vertices, or does not fit the
            lattice or the other faces.
    """
    settings = settings or SimplexSettings()
    around = boundary(objective, vertices, faces, settings)
    floor = max(around.maxima.values())
    states = init(objective, [around.points], [floor], len(vertices) - 1, settings)
    total = settings.total_epochs(objective.batches)
    states = advance_together(objective, states, settings, seed, until_epoch=total)
    return solutions(objective, states, settings)[0]


def solutions(
    objective: Objective, states: Sequence[SimplexState], settings: SimplexSettings
) -> list[SimplexSolution]:
    """The best simplices so far, measured, with the evidence for or against convergence."""
    if not states:
        return []
    points = torch.stack([state.best for state in states])
    profiles = profiles_of(
        objective, points, states[0].nodes, [state.floor for state in states], settings
    )
    return [
        _solution(state, profile, settings) for state, profile in zip(states, profiles, strict=True)
    ]


def _solution(
    state: SimplexState, profile: SimplexProfile, settings: SimplexSettings
) -> SimplexSolution:
    value = max(profile.maximum, state.floor)
    allowed = settings.convergence_tolerance * (value - state.floor)
    remaining = min(further_fall(state.history)[1], value - state.floor) if state.history else 0.0
    if state.failure:
        outcome, reason = Outcome.DIVERGED, state.failure
    elif value <= state.floor + state.tolerance:
        outcome, remaining = Outcome.CONVERGED, 0.0
        reason = "nothing on it is higher than its faces"
    elif finished(state, settings) and (
        remaining <= allowed or state.epoch < settings.total_epochs(state.batches)
    ):
        outcome = Outcome.CONVERGED
        reason = f"its value would fall by {remaining:.3g} more, below {allowed:.3g}"
        if state.epoch < settings.total_epochs(state.batches):
            reason = "it is at rest"
    else:
        outcome = Outcome.BUDGET
        reason = f"its value would fall by {remaining:.3g} more, above {allowed:.3g}; raise epochs"
    return SimplexSolution(
        points=state.best,
        value=value,
        profile=profile,
        outcome=outcome,
        remaining_fall=remaining,
        reason=reason + ".",
        history=state.history,
        gradient_evaluations=state.gradient_evaluations,
    )


def edge_nodes(path: Tensor, settings: SimplexSettings) -> Tensor:
    """The path [k, d] as an edge of the complex: [m + 1, d] at equal arc length."""
    return resample(path, settings.subdivisions + 1)


def boundary(
    objective: Objective,
    vertices: Tensor,
    faces: Mapping[Face, Tensor],
    settings: SimplexSettings,
    *,
    maxima: Mapping[Face, float] | None = None,
) -> Boundary:
    """The boundary nodes of a simplex from its optimised faces, as for ``optimize_simplex``.

    ``maxima`` of the faces are measured where None.

    Raises:
        ValueError: as for ``optimize_simplex``.
    """
    r = len(vertices) - 1
    if vertices.ndim != 2 or r < 2:
        raise ValueError(
            f"the vertices have shape {tuple(vertices.shape)}; give three or more, as rows. An "
            "edge is a path: optimize_path makes one."
        )
    nodes = lattice(r, settings.subdivisions)
    wanted = list(itertools.combinations(range(r + 1), r))
    if missing := [face for face in wanted if face not in faces]:
        raise ValueError(
            f"the face {missing[0]} is missing; give the {r + 1} faces {wanted} by the positions "
            "of their vertices."
        )
    placed = {face: _placed(faces[face], face, vertices, settings) for face in wanted}
    points = vertices.new_empty(len(nodes.coordinates), vertices.shape[1])
    for face in wanted:
        (omitted,) = set(range(r + 1)) - set(face)
        points[nodes.face(omitted)] = placed[face]
    for face in wanted:
        (omitted,) = set(range(r + 1)) - set(face)
        if not torch.equal(points[nodes.face(omitted)], placed[face]):
            raise ValueError(
                f"the face {face} does not meet the other faces; give faces that were made from "
                "the same paths with the same subdivisions."
            )
    if maxima is None:
        maxima = {face: _maximum(objective, rows, r - 1, settings) for face, rows in placed.items()}
    return Boundary(points[nodes.boundary], {face: maxima[face] for face in wanted})


def _placed(rows: Tensor, face: Face, vertices: Tensor, settings: SimplexSettings) -> Tensor:
    """A face [k, d] as nodes of its lattice, with its corners at the vertices."""
    r = len(face)
    nodes = lattice(r - 1, settings.subdivisions)
    if rows.ndim != 2 or rows.shape[1] != vertices.shape[1] or rows.dtype != vertices.dtype:
        raise ValueError(
            f"the face {face} has shape {tuple(rows.shape)} and dtype {rows.dtype}; its rows must "
            f"be points of dimension {vertices.shape[1]} in {vertices.dtype}."
        )
    if r == 2:
        rows = edge_nodes(rows, settings)
    elif len(rows) != len(nodes.coordinates):
        raise ValueError(
            f"the face {face} has {len(rows)} points, and with {settings.subdivisions} "
            f"subdivisions it must have {len(nodes.coordinates)}."
        )
    for position, vertex in enumerate(face):
        corner = tuple(settings.subdivisions * (place == position) for place in range(r))
        if not torch.equal(rows[nodes.place(corner)], vertices[vertex]):
            raise ValueError(
                f"the face {face} does not have its corner {position} at vertex {vertex}; give "
                "faces whose vertices are in increasing order, and reverse paths that run "
                "backwards."
            )
    return rows


def _maximum(
    objective: Objective, rows: Tensor, dimension: int, settings: SimplexSettings
) -> float:
    """The highest loss on a face [k, d] that lies on its lattice."""
    if dimension == 1:
        return loss_profile(objective, rows, tolerance=settings.height_tolerance).maximum
    nodes = lattice(dimension, settings.subdivisions)
    (profile,) = profiles_of(objective, rows[None], nodes, [-math.inf], settings)
    return profile.maximum
