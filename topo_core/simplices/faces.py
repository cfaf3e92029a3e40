"""The faces of a simplex: optimised paths or simplices, resampled on its lattice.

A path becomes a polygon of m + 1 points. This polygon is the edge of the complex, so the highest loss of the
edge is measured on the polygon, not on the path.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective
from topo_core.paths.polyline import resample
from topo_core.paths.profiles import loss_profile
from topo_core.simplices.lattice import lattice
from topo_core.simplices.profiles import SimplexProfile, measured_profiles
from topo_core.simplices.settings import SimplexSettings

Face = tuple[int, ...]


@dataclass(frozen=True)
class SimplexBoundary:
    """The optimised faces of a simplex, on its lattice.

    Attributes:
        points: [N - I, d], the boundary nodes in lattice order.
        maxima: highest loss on each face, measured on the lattice.
    """

    points: Tensor
    maxima: Mapping[Face, float]

    def maxima_with(self, profile: SimplexProfile) -> dict[Face, float]:
        """The highest loss known on each face, given the profile of the optimised simplex.

        If the maximum of the simplex lies on a face, it is also the maximum of that face. The two searches
        may differ in the last digits, and this difference must not become a bar.
        """
        count = len(profile.argmax)
        return {
            face: max(height, profile.maximum)
            if all(float(profile.argmax[v]) == 0 for v in range(count) if v not in face)
            else height
            for face, height in self.maxima.items()
        }


def edge_nodes(path: Tensor, settings: SimplexSettings) -> Tensor:
    """The path [k, d] as an edge of the complex: [m + 1, d] at equal arc length."""
    return resample(path, settings.subdivisions + 1)


def simplex_boundary(
    objective: Objective,
    vertices: Tensor,
    faces: Mapping[Face, Tensor],
    settings: SimplexSettings,
    *,
    maxima: Mapping[Face, float] | None = None,
) -> SimplexBoundary:
    """The boundary nodes of a simplex from its optimised faces.

    Args:
        objective: the loss.
        vertices, faces: as for ``optimize_simplex``.
        settings: the number of subdivisions, and how maxima are measured.
        maxima: highest loss on each face, measured on the lattice; None to measure them here.

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
    on_lattice = {face: _face_nodes(faces[face], face, vertices, settings) for face in wanted}
    points = vertices.new_empty(len(nodes.coordinates), vertices.shape[1])
    for face in wanted:
        (omitted,) = set(range(r + 1)) - set(face)
        points[nodes.face(omitted)] = on_lattice[face]
    for face in wanted:
        (omitted,) = set(range(r + 1)) - set(face)
        if not torch.equal(points[nodes.face(omitted)], on_lattice[face]):
            raise ValueError(
                f"the face {face} does not meet the other faces; give faces that were made from "
                "the same paths with the same subdivisions."
            )
    if maxima is None:
        maxima = {
            face: _maximum(objective, rows, r - 1, settings) for face, rows in on_lattice.items()
        }
    return SimplexBoundary(points[nodes.boundary], {face: maxima[face] for face in wanted})


def _face_nodes(rows: Tensor, face: Face, vertices: Tensor, settings: SimplexSettings) -> Tensor:
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
        corner = tuple(settings.subdivisions * (axis == position) for axis in range(r))
        if not torch.equal(rows[nodes.row(corner)], vertices[vertex]):
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
    (profile,) = measured_profiles(objective, rows[None], nodes, [-math.inf], settings)
    return profile.maximum
