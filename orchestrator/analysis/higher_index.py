"""Barcodes of index r of a run: minima, paths and optimised simplices as one filtered complex."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

from topo_core.homology.filtrations import Filtration, Simplex, filtration
from topo_core.homology.persistent_homology import HomologyBarcode, persistence
from workers.storage.schema import SimplexRecord


@dataclass(frozen=True)
class Homology:
    """Of index 1 and more.

    Attributes:
        barcodes: by index.
        epsilon: no bar is off by more for what the dense sampling can have missed: the largest
            such error of any simplex.
        remaining_fall: the largest estimate of what a longer optimisation would still lower a
            simplex by; an estimate, and no part of ``epsilon``.
    """

    barcodes: Mapping[int, HomologyBarcode]
    epsilon: float
    remaining_fall: float


def homology(
    losses: Mapping[int, float],
    heights: Mapping[tuple[int, int], float],
    simplices: Mapping[Simplex, SimplexRecord],
    max_index: int,
) -> Homology:
    """The barcodes of index 1 to ``max_index``; bars name minima as ``losses`` does.

    A simplex enters at the maximum of its own and of its faces. The edges of this complex are the
    polygons on the lattice that the triangles are spanned by, so an edge has the height measured
    there, not that of the finer path behind it.
    """
    place = {minimum: position for position, minimum in enumerate(sorted(losses))}
    edges = {**heights, **_edge_maxima(simplices.values())}
    known = {
        # The ends belong to an edge; evaluated elsewhere, they may differ by rounding.
        (place[i], place[j]): max(height, losses[i], losses[j])
        for (i, j), height in edges.items()
        if i in place and j in place
    }
    maxima: list[dict[Simplex, float]] = []
    present: set[Simplex] = set(known)
    for dimension in range(2, max_index + 2):
        # What has lost a vertex or a face (a damaged record) is left out until it is made again.
        of_dimension = {
            tuple(place[v] for v in vertices): record.own_maximum
            for vertices, record in simplices.items()
            if len(vertices) == dimension + 1 and set(vertices) <= set(place)
        }
        whole = {
            vertices: value
            for vertices, value in of_dimension.items()
            if present.issuperset(combinations(vertices, dimension))
        }
        maxima.append(whole)
        present = set(whole)
    found = filtration([losses[minimum] for minimum in sorted(losses)], known, *maxima)
    barcodes = _named(found, max_index, sorted(losses))
    return Homology(
        barcodes,
        max((record.value_high - record.value for record in simplices.values()), default=0.0),
        max((record.remaining_fall for record in simplices.values()), default=0.0),
    )


def _edge_maxima(records: Iterable[SimplexRecord]) -> dict[tuple[int, int], float]:
    """The heights of edges as the triangles have measured them."""
    found: dict[tuple[int, int], float] = {}
    for record in records:
        if len(record.vertices) == 3:
            pairs = combinations(record.vertices, 2)
            for (i, j), height in zip(pairs, record.face_maxima, strict=True):
                found[i, j] = max(height, found.get((i, j), height))
    return found


def _named(found: Filtration, max_index: int, names: list[int]) -> dict[int, HomologyBarcode]:
    barcodes = persistence(found, max_index)
    return {
        index: HomologyBarcode(
            tuple(
                type(bar)(
                    bar.birth,
                    bar.death,
                    tuple(names[v] for v in bar.born),
                    tuple(names[v] for v in bar.killed) if bar.killed else None,
                )
                for bar in bars.bars
            ),
            index,
            bars.field,
        )
        for index, bars in barcodes.items()
        if index > 0
    }
