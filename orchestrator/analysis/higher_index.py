"""Barcodes of index r of a run: minima, edges and optimised simplices form one filtered complex.

The edges of this complex are the sides of the triangles, which are polygons on the lattice of the triangles,
and not the finer paths of the barcode of minima. All barcodes here, including that of index 0, use these
edges, so that they can be compared with each other.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from orchestrator.telemetry.json_values import finite_or_none
from topo_core.homology.filtrations import Filtration, Simplex, filtration
from topo_core.homology.persistent_homology import HomologyBarcode, persistence
from topo_core.homology.to_scores import to_score
from workers.storage.schema import SimplexRecord


@dataclass(frozen=True)
class SimplexHomology:
    """Barcodes of the complex of optimised simplices.

    Attributes:
        index_0: the barcode of index 0 of this complex. Its edges are usually higher than the paths, and its
            bars then longer than those of the barcode of minima.
        barcodes: the barcodes of index 1 and higher, by index.
        epsilon: estimated sampling error, the largest of all simplices. If the estimate holds, no end of a
            bar has a larger error.
        remaining_fall: the largest estimate, over all simplices, of how much a longer optimisation would
            lower the simplex.
        unconverged: number of simplices that have not converged.
    """

    index_0: HomologyBarcode
    barcodes: Mapping[int, HomologyBarcode]
    epsilon: float
    remaining_fall: float
    unconverged: int

    def to_json(self) -> dict[str, Any]:
        """The key `higher_index` of `reduce --json`; infinite numbers are null."""
        return {
            "edges": "polygons on the lattice of the triangles",
            "to_score_of_index_0": finite_or_none(to_score(self.index_0)),
            "sampling_error": {"epsilon": finite_or_none(self.epsilon)},
            "convergence_estimate": {
                "remaining_fall": finite_or_none(self.remaining_fall),
                "simplices_not_converged": self.unconverged,
            },
        }


def simplex_homology(
    losses: Mapping[int, float],
    heights: Mapping[tuple[int, int], float],
    simplices: Mapping[Simplex, SimplexRecord],
    max_index: int,
) -> SimplexHomology:
    """Compute the barcodes of index 0 to ``max_index``.

    The filtration value of a simplex is the largest of its own dense maximum and those of its faces. The
    value of an edge is the largest that its triangles have measured, or the height of its path if there is no
    triangle yet.

    Args:
        losses: of the minima, by number; bars use the same numbers.
        heights: of the paths, by pair.
        simplices: the records of the simplices, by their vertices.
        max_index: highest index of a barcode.
    """
    vertex = {minimum: position for position, minimum in enumerate(sorted(losses))}
    usable = {
        vertices: record
        for vertices, record in simplices.items()
        if math.isfinite(record.own_maximum)
    }
    edges = {
        # An edge is at least as high as its ends; the measured value may be lower by rounding.
        (vertex[i], vertex[j]): max(height, losses[i], losses[j])
        for (i, j), height in {**heights, **_edge_maxima(usable.values())}.items()
        if i in vertex and j in vertex
    }
    maxima: list[dict[Simplex, float]] = []
    present: set[Simplex] = set(edges)
    for dimension in range(2, max_index + 2):
        maxima.append(_with_all_faces(usable, dimension, vertex, present))
        present = set(maxima[-1])
    complex_ = filtration([losses[minimum] for minimum in sorted(losses)], edges, *maxima)
    barcodes = _named(complex_, max_index, sorted(losses))
    records = simplices.values()
    return SimplexHomology(
        barcodes.pop(0),
        barcodes,
        max((record.value_high - record.value for record in usable.values()), default=0.0),
        max((record.remaining_fall for record in records), default=0.0),
        sum(record.outcome != "converged" for record in records),
    )


def _with_all_faces(
    simplices: Mapping[Simplex, SimplexRecord],
    dimension: int,
    vertex: Mapping[int, int],
    faces: set[Simplex],
) -> dict[Simplex, float]:
    """The dense maxima of the simplices of ``dimension`` whose faces all have results, by vertices.

    A simplex without one of its vertices or faces (because of a damaged record) is left out until a run
    repeats the missing task.
    """
    maxima = {
        tuple(vertex[v] for v in vertices): record.own_maximum
        for vertices, record in simplices.items()
        if len(vertices) == dimension + 1 and set(vertices) <= set(vertex)
    }
    return {
        vertices: value
        for vertices, value in maxima.items()
        if faces.issuperset(combinations(vertices, dimension))
    }


def _edge_maxima(records: Iterable[SimplexRecord]) -> dict[tuple[int, int], float]:
    """The height of each edge, the largest that its triangles have measured."""
    maxima: dict[tuple[int, int], float] = {}
    for record in records:
        if len(record.vertices) == 3:
            pairs = combinations(record.vertices, 2)
            for (i, j), height in zip(pairs, record.face_maxima, strict=True):
                maxima[i, j] = max(height, maxima.get((i, j), height))
    return maxima


def _named(complex_: Filtration, max_index: int, names: list[int]) -> dict[int, HomologyBarcode]:
    """The barcodes by index, with simplices named by minima instead of positions of vertices."""
    return {
        index: replace(
            bars,
            bars=tuple(
                replace(
                    bar,
                    born=tuple(names[v] for v in bar.born),
                    killed=tuple(names[v] for v in bar.killed) if bar.killed else None,
                )
                for bar in bars.bars
            ),
        )
        for index, bars in persistence(complex_, max_index).items()
    }
