"""The barcodes of simplices on the minima: paths, triangles, and so on (section 1.4)."""

import itertools
import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from topo_core.homology.barcodes import Barcode, barcode
from topo_core.homology.filtrations import Filtration, filtration
from topo_core.homology.persistent_homology import HomologyBarcode, persistence
from topo_core.homology.to_scores import to_score
from topo_core.morse.landscape_results import (
    LandscapeBarcodes,
    LandscapeSettings,
    LoopBarcode,
    Vertices,
)
from topo_core.morse.simplex_filling import filled_simplices, height_margin, lowest_triangles
from topo_core.objectives.protocol import Objective
from topo_core.paths.optimize import optimize_path
from topo_core.paths.profiles import loss_profile
from topo_core.random_streams import seed_of
from topo_core.simplices.faces import SimplexBoundary, edge_nodes, simplex_boundary
from topo_core.simplices.optimize import SimplexSolution
from topo_core.simplices.settings import SimplexSettings


def barcodes_of_simplices(
    objective: Objective, minima: Tensor, max_index: int, settings: LandscapeSettings, seed: int
) -> LandscapeBarcodes:
    """Optimise a path for every pair of ``minima`` [n, d], a triangle for every triple, and so on."""
    paths, heights, bracket = {}, {}, 0.0
    losses = objective.losses(minima).tolist()
    for i, j in itertools.combinations(range(len(minima)), 2):
        found = optimize_path(
            objective, minima[i], minima[j], settings.paths, seed=seed_of(seed, "path", i, j)
        )
        if not math.isfinite(found.profile.maximum):
            continue  # a path that failed connects nothing
        # Ends are on their paths, whatever the rounding of a batched evaluation.
        heights[i, j] = max(found.profile.maximum, losses[i], losses[j])
        paths[i, j] = found.points
        bracket = max(bracket, found.profile.bracket)
    barcodes: dict[int, Barcode | HomologyBarcode | LoopBarcode] = {0: barcode(losses, heights)}
    complex_, index_0 = None, None
    if max_index:
        complex_ = _Complex(objective, minima, paths, settings.simplices, seed)
        for dimension in range(2, max_index + 2):
            complex_.fill(dimension)
        higher = persistence(complex_.filtration(losses), max_index)
        barcodes.update({index: higher[index] for index in range(1, max_index + 1)})
        index_0 = higher[0]
    return LandscapeBarcodes(
        minima=minima,
        losses=tuple(losses),
        heights=heights,
        passes=(),
        quiet_rounds=0,
        simplices=complex_.simplices if complex_ else {},
        descending=(),
        unread=0,
        barcodes=barcodes,
        to_scores={index: to_score(bars) for index, bars in barcodes.items()},
        epsilon={index: complex_.bracket if complex_ and index else bracket for index in barcodes},
        index_0_of_simplices=index_0,
    )


class _Complex:
    """The simplices of all dimensions, each made from those below it."""

    def __init__(
        self,
        objective: Objective,
        minima: Tensor,
        paths: Mapping[tuple[int, int], Tensor],
        settings: SimplexSettings,
        seed: int,
    ) -> None:
        self.objective, self.settings, self.seed = objective, settings, seed
        self.minima = minima
        self.edges = {pair: edge_nodes(path, settings) for pair, path in paths.items()}
        self.maxima: dict[Vertices, float] = {}
        self.bracket = 0.0
        for pair, nodes in self.edges.items():
            profile = loss_profile(objective, nodes, tolerance=settings.height_tolerance)
            if math.isfinite(profile.maximum):
                self.maxima[pair] = profile.maximum
                self.bracket = max(self.bracket, profile.bracket)
        self.simplices: dict[Vertices, SimplexSolution] = {}

    def fill(self, dimension: int) -> None:
        """Optimise all simplices of ``dimension`` whose faces are there; those that fail are left out."""
        wanted = [
            vertices
            for vertices in itertools.combinations(range(len(self.minima)), dimension + 1)
            if all(face in self.maxima for face in itertools.combinations(vertices, dimension))
        ]
        around = [self._boundary(vertices) for vertices in wanted]
        if dimension == 2:
            found = lowest_triangles(self.objective, around, self.settings, self.seed)
        else:
            found = filled_simplices(self.objective, around, dimension, self.settings, self.seed)
        for vertices, one, simplex in zip(wanted, around, found, strict=True):
            if not math.isfinite(simplex.profile.maximum):
                continue
            self.simplices[vertices] = simplex
            self.maxima[vertices] = simplex.profile.maximum
            self.bracket = max(self.bracket, height_margin(simplex))
            for face, height in one.maxima_with(simplex.profile).items():
                named = tuple(vertices[v] for v in face)
                self.maxima[named] = max(self.maxima[named], height)

    def filtration(self, losses: Sequence[float]) -> Filtration:
        """Minima, edges as they lie on the lattice, and all simplices."""
        by_dimension: dict[int, dict[Vertices, float]] = {}
        for vertices, value in self.maxima.items():
            by_dimension.setdefault(len(vertices) - 1, {})[vertices] = value
        edges = {
            (i, j): max(value, losses[i], losses[j])
            for (i, j), value in by_dimension.pop(1, {}).items()
        }
        return filtration(losses, edges, *(by_dimension[k] for k in sorted(by_dimension)))

    def _boundary(self, vertices: Vertices) -> SimplexBoundary:
        faces, maxima = {}, {}
        for face in itertools.combinations(range(len(vertices)), len(vertices) - 1):
            named = tuple(vertices[v] for v in face)
            faces[face] = (
                self.edges[named[0], named[1]] if len(named) == 2 else self.simplices[named].points
            )
            maxima[face] = self.maxima[named]
        corners = self.minima[list(vertices)]
        return simplex_boundary(self.objective, corners, faces, self.settings, maxima=maxima)
