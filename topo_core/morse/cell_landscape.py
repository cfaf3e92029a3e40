"""The barcodes of index 0 and 1 of passes and discs, with loops that simplices on the minima cannot have.

The passes themselves are the edges (``pass_search``), and discs are spanned by short loops of them
(``cell_complexes``). An optimised disc may lie above the lowest one. So its peak is followed to a critical
point of index 2 (``index_two_points``), walkers look for others, and the discs that descend from all of them
(``descending_discs``) fill loops too. The value of each disc is an upper bound, so of all discs
that fill a loop the lowest counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from scipy.cluster.hierarchy import DisjointSet
from torch import Tensor

from topo_core.homology.barcodes import Barcode, barcode
from topo_core.homology.persistent_homology import HomologyBarcode
from topo_core.homology.to_scores import to_score
from topo_core.morse.candidate_loops import Loop, candidate_loops
from topo_core.morse.cell_complexes import CellComplex
from topo_core.morse.closed_polygons import closed_polygon
from topo_core.morse.descending_discs import descending_discs
from topo_core.morse.descent_fans import DescendingDisc
from topo_core.morse.index_two_points import IndexTwoPoint, find_index_two_points
from topo_core.morse.landscape_results import (
    LandscapeBarcodes,
    LandscapeSettings,
    LoopBarcode,
    Vertices,
)
from topo_core.morse.pass_search import Passes, find_passes, more_passes
from topo_core.morse.passes import Pass
from topo_core.morse.simplex_filling import filled_simplices, height_margin
from topo_core.objectives.protocol import Objective
from topo_core.paths.polyline import arc_positions, at_positions, segment_lengths
from topo_core.simplices.faces import simplex_boundary
from topo_core.simplices.lattice import lattice
from topo_core.simplices.optimize import SimplexSolution
from topo_core.simplices.settings import SimplexSettings

_EXTENSIONS = 3  # largest number of searches for passes that diverging descents show to be missing


def barcodes_of_cells(
    objective: Objective, minima: Tensor, max_index: int, settings: LandscapeSettings, seed: int
) -> LandscapeBarcodes:
    """The barcodes of index 0, and of index 1 where ``max_index`` is 1, of passes and discs."""
    found = find_passes(
        objective, minima, seed=seed, walkers=settings.walkers, reach=settings.reach
    )
    tops: list[IndexTwoPoint] = []
    descending: list[DescendingDisc] = []
    if max_index and independent_loops(found):
        found, tops, descending = _descend(objective, found, settings, seed)
    passes = found.passes
    losses = objective.losses(found.minima).tolist()
    edges = [one.ends for one in passes]
    rims = [max(one.height, *(losses[end] for end in one.ends)) for one in passes]
    heights: dict[tuple[int, int], float] = {}
    for pair, height in zip(edges, rims, strict=True):
        if pair[0] != pair[1]:
            heights[pair] = min(height, heights.get(pair, height))
    barcodes: dict[int, Barcode | HomologyBarcode | LoopBarcode] = {0: barcode(losses, heights)}
    epsilon = {0: max((one.bracket for one in passes), default=0.0)}
    discs = _Discs()
    if max_index:
        discs = _fill(objective, found, tops, descending, settings, seed)
        cells = CellComplex(
            len(found.minima), edges, rims, discs.boundaries, discs.values, discs.brackets
        )
        barcodes[1] = LoopBarcode(cells.loop_bars())
        epsilon[1] = max([epsilon[0], *(one.open for one in cells.fillings()[0])])
    return LandscapeBarcodes(
        minima=found.minima,
        losses=tuple(losses),
        heights=heights,
        passes=passes,
        quiet_rounds=found.quiet,
        simplices={(number,): disc for number, disc in enumerate(discs.optimised)},
        descending=discs.descending,
        unread=discs.unread,
        barcodes=barcodes,
        to_scores={index: to_score(bars) for index, bars in barcodes.items()},
        epsilon=epsilon,
    )


@dataclass(frozen=True)
class _Discs:
    """Discs on loops of passes, optimised ones first.

    Attributes:
        loops: the loops that the optimised discs span.
        optimised: discs on a lattice.
        descending: discs that descend from critical points of index 2.
        unread: number of critical points whose disc has an unknown boundary.
    """

    loops: tuple[Loop, ...] = ()
    optimised: tuple[SimplexSolution, ...] = ()
    descending: tuple[DescendingDisc, ...] = ()
    unread: int = 0

    @property
    def boundaries(self) -> list[frozenset[int]]:
        """The passes on the boundary of each disc, mod 2."""
        return [loop.edges for loop in self.loops] + [disc.boundary for disc in self.descending]

    @property
    def values(self) -> list[float]:
        """The highest loss on each disc."""
        return [disc.value for disc in self.optimised] + [disc.value for disc in self.descending]

    @property
    def brackets(self) -> list[float]:
        """By how much the value of each disc may be higher."""
        return [height_margin(disc) for disc in self.optimised] + [
            d.bracket for d in self.descending
        ]


def independent_loops(found: Passes) -> int:
    """Number of independent loops of the passes: edges − vertices + connected components."""
    parts = DisjointSet(range(len(found.minima)))
    for one in found.passes:
        parts.merge(*one.ends)
    return len(found.passes) - len(found.minima) + int(parts.n_subsets)


def _descend(
    objective: Objective, found: Passes, settings: LandscapeSettings, seed: int
) -> tuple[Passes, list[IndexTwoPoint], list[DescendingDisc]]:
    """The passes, extended by those that diverging descents show to be missing; and the critical points of
    index 2, with their discs."""
    for left in reversed(range(_EXTENSIONS + 1)):
        tops = find_index_two_points(
            objective,
            found.minima,
            found.passes,
            given=found.given,
            size=found.size,
            walkers=settings.walkers,
            seed=seed,
        )
        discs, diverging = descending_discs(
            objective, tops, found.minima, found.passes, size=found.size
        )
        if not diverging or not left:
            break
        points, directions = (
            [one.point for one in diverging],
            [one.direction for one in diverging],
        )
        more = more_passes(found, torch.stack(points), torch.stack(directions))
        if more is None:
            break
        found = more
    return found, tops, discs


def _fill(
    objective: Objective,
    found: Passes,
    tops: list[IndexTwoPoint],
    descending: list[DescendingDisc],
    settings: LandscapeSettings,
    seed: int,
) -> _Discs:
    """Optimised discs on short loops, and the discs that descend from critical points beside their peaks."""
    independent = independent_loops(found)
    if not independent:
        return _Discs()
    edges = [one.ends for one in found.passes]
    lengths = [float(segment_lengths(one.path).sum()) for one in found.passes]
    loops = candidate_loops(len(found.minima), edges, lengths, most=settings.discs * independent)
    optimised = _discs(objective, found.passes, loops, settings.simplices, seed)
    more = find_index_two_points(
        objective,
        found.minima,
        found.passes,
        [_peak(disc, settings.simplices) for disc in optimised],
        known=tops,
        given=len(found.minima),
        size=found.size,
        walkers=0,
        seed=seed,
    )
    others, _ = descending_discs(objective, more, found.minima, found.passes, size=found.size)
    known = (*descending, *others)
    return _Discs(tuple(loops), tuple(optimised), known, len(tops) + len(more) - len(known))


def _peak(disc: SimplexSolution, settings: SimplexSettings) -> Tensor:
    """[d], the highest point of an optimised disc."""
    nodes = lattice(2, settings.subdivisions)
    corners, weights = nodes.interpolation(disc.profile.argmax[None] * settings.subdivisions)
    peak: Tensor = weights[0].to(disc.points) @ disc.points[corners[0]]
    return peak


def _discs(
    objective: Objective,
    passes: Sequence[Pass],
    loops: Sequence[Loop],
    settings: SimplexSettings,
    seed: int,
) -> list[SimplexSolution]:
    """An optimised disc for each loop: a triangle whose sides are thirds of the loop."""
    around, strips = [], []
    for loop in loops:
        walk, strip = closed_polygon(objective, passes, loop)
        strips.append(strip)
        positions = arc_positions(walk)
        sides = []
        for side in range(3):
            low, high = side / 3, (side + 1) / 3
            inside = walk[(positions > low) & (positions < high)]
            ends = at_positions(walk, positions, positions.new_tensor([low, high]))
            sides.append(torch.cat([ends[:1], inside, ends[1:]]))
        sides[0][0] = sides[2][-1] = walk[0]
        sides[1][0], sides[2][0] = sides[0][-1], sides[1][-1]
        corners = torch.stack([side[0] for side in sides])
        faces: dict[Vertices, Tensor] = {
            (0, 1): sides[0],
            (1, 2): sides[1],
            (0, 2): sides[2].flip(0),
        }
        around.append(simplex_boundary(objective, corners, faces, settings))
    return [
        replace(disc, value=max(disc.value, strip))
        for disc, strip in zip(
            filled_simplices(objective, around, 2, settings, seed), strips, strict=True
        )
    ]
