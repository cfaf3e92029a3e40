"""From a loss and its minima to the barcodes of all indices: section 1.4 in one call.

Every pair of minima is joined by an optimised path, every triple filled by an optimised triangle,
and so on up to the dimension that the highest index needs; the simplices enter at their
highest losses, and persistent homology pairs those that open a class with those that close it.

With ``subdivide`` the passes themselves are the edges (``subdivide``), and discs are spanned by short
loops of them (``cells``), which is more than simplices on the minima can see; up to index 1. An
optimised disc hangs above the lowest one. So its peak is followed to a critical point of index 2
(``index_two``), walkers look for others, and the discs that descend from all of them
(``descending``) fill loops too. Each disc is attained: of all that fill a loop the lowest counts.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from topo_core.homology.barcodes import Barcode, Bars, barcode
from topo_core.homology.filtrations import Filtration, filtration
from topo_core.homology.persistent_homology import HomologyBarcode, persistence
from topo_core.homology.to_scores import to_score
from topo_core.morse.cell_complexes import Loop, LoopBar, candidate_loops, fillings, loop_bars
from topo_core.morse.closed_polygons import closed_walk
from topo_core.morse.descending_discs import DescendingDisc, descending_discs
from topo_core.morse.index_two_points import Top, find_tops
from topo_core.morse.path_subdivision import Pass, Passes, find_passes, more_passes
from topo_core.objectives.protocol import Objective
from topo_core.paths.optimize import optimize_path
from topo_core.paths.polyline import arc_positions, at_positions, segment_lengths
from topo_core.paths.profiles import loss_profile
from topo_core.paths.settings import PathSettings
from topo_core.random_streams import seed_of
from topo_core.simplices.corner_starts import two_sided_starts
from topo_core.simplices.faces import SimplexBoundary, edge_nodes, simplex_boundary
from topo_core.simplices.lattice import lattice
from topo_core.simplices.optimize import SimplexSolution, simplex_solutions
from topo_core.simplices.settings import SimplexSettings
from topo_core.simplices.solver import advance_simplices, begin_simplices

Vertices = tuple[int, ...]

_EXTENSIONS = 3  # of the passes by those that discs have shown to be missing
_ROWS = 1 << 23  # numbers in the nodes of simplices that are optimised together


@dataclass(frozen=True)
class LandscapeSettings:
    """How a whole landscape is reduced.

    Attributes:
        paths: of every pair of minima; not used by ``subdivide``.
        simplices: of every simplex of dimension 2 or more, and of the discs.
        subdivide: let passes be edges, several between two minima where there are several. Without
            it loops are seen only where three minima or more surround them by paths that
            do not all go the same way round.
        discs: with ``subdivide``, optimised discs for each independent loop.
        walkers: with ``subdivide``, drawn starts of a round in the search for minima and passes
            beside the routes, and for critical points of index 2 beside the peaks of discs; 0
            keeps to the routes and the peaks.
        reach: how far from the mean of the given minima walkers may start, along each axis; None
            for twice the largest distance between two of them.
    """

    paths: PathSettings = field(default_factory=PathSettings)
    simplices: SimplexSettings = field(default_factory=SimplexSettings)
    subdivide: bool = False
    discs: int = 8
    walkers: int = 128
    reach: float | None = None


@dataclass(frozen=True)
class LoopBarcode(Bars[LoopBar]):
    """The bars of index 1 of passes and discs."""

    index: ClassVar[int] = 1


@dataclass(frozen=True)
class LandscapeBarcodes:
    """The barcodes of a landscape and what they were made from.

    Attributes:
        minima: [n, d]; with ``subdivide`` those given, then those found on the way.
        losses: of the minima.
        heights: of the lowest path between two minima, by pair; index 0 is made from them. A pair
            whose path failed (a loss that is not finite) has none.
        passes: with ``subdivide``, all passes that were found.
        quiet_rounds: with ``subdivide``, rounds of walkers at the end of the search that met
            nothing new; with fewer than two something is likely to be missing.
        simplices: optimised, by vertices, or by number for discs.
        descending: with ``subdivide``, the discs that descend from critical points of index 2.
            Bars of index 1 number them after those of ``simplices``.
        unread: critical points of index 2 whose disc is left out, for its boundary could not be
            read: a pass or a minimum beside it may be missing.
        barcodes: by index; index 0 by the elder rule.
        to_scores: by index.
        epsilon: by index, how far a bar may be off for what dense sampling can have missed.
    """

    minima: Tensor
    losses: tuple[float, ...]
    heights: Mapping[tuple[int, int], float]
    passes: tuple[Pass, ...]
    quiet_rounds: int
    simplices: Mapping[Vertices, SimplexSolution]
    descending: tuple[DescendingDisc, ...]
    unread: int
    barcodes: Mapping[int, Barcode | HomologyBarcode | LoopBarcode]
    to_scores: Mapping[int, float]
    epsilon: Mapping[int, float]


def landscape_barcodes(
    objective: Objective,
    minima: Tensor,
    max_index: int = 1,
    settings: LandscapeSettings | None = None,
    *,
    seed: int = 0,
) -> LandscapeBarcodes:
    """The barcodes of index 0 to ``max_index`` of a loss with known minima.

    Optimises C(n, 2) paths, C(n, 3) triangles, ... up to C(n, max_index + 2) simplices.

    Args:
        objective: the loss; ``from_function`` makes one of a formula.
        minima: [n, d], points where the gradient vanishes; ``polish_minimum`` finds them.
        max_index: the highest index.
        settings: all defaults when None.
        seed: names all draws.

    Raises:
        ValueError: fewer than two minima (one is enough with ``subdivide`` and ``reach``); a
            negative ``max_index``, or one above 1 with ``subdivide``; ``subdivide`` without exact
            gradients.
    """
    settings = settings or LandscapeSettings()
    least = 1 if settings.subdivide and settings.reach else 2
    if minima.ndim != 2 or len(minima) < least or max_index < 0:
        raise ValueError(
            f"minima has shape {tuple(minima.shape)} and max_index is {max_index}; give two minima "
            "or more as rows, and an index of 0 or more."
        )
    if settings.subdivide:
        if max_index > 1:
            raise ValueError(
                f"max_index is {max_index}, and subdivide knows passes and discs, which is index 0 "
                "and 1; leave subdivide out for a higher index."
            )
        return _of_cells(objective, minima, max_index, settings, seed)
    return _of_simplices(objective, minima, max_index, settings, seed)


def _of_simplices(
    objective: Objective, minima: Tensor, max_index: int, settings: LandscapeSettings, seed: int
) -> LandscapeBarcodes:
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
    complex_ = None
    if max_index:
        complex_ = _Complex(objective, minima, paths, settings.simplices, seed)
        for dimension in range(2, max_index + 2):
            complex_.fill(dimension)
        higher = persistence(complex_.filtration(losses), max_index)
        barcodes.update({index: higher[index] for index in range(1, max_index + 1)})
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
    )


def _of_cells(
    objective: Objective, minima: Tensor, max_index: int, settings: LandscapeSettings, seed: int
) -> LandscapeBarcodes:
    found = find_passes(
        objective, minima, seed=seed, walkers=settings.walkers, reach=settings.reach
    )
    tops: list[Top] = []
    descending: list[DescendingDisc] = []
    if max_index and _loops_of(found):
        found, tops, descending = _descend(objective, found, len(minima), settings, seed)
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
        complex_ = len(found.minima), edges, rims, discs.boundaries, discs.values, discs.brackets
        barcodes[1] = LoopBarcode(loop_bars(*complex_))
        epsilon[1] = max([epsilon[0], *(one.open for one in fillings(*complex_)[0])])
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
        loops: that the optimised ones span.
        optimised: on a lattice.
        descending: from critical points of index 2.
        unread: critical points whose disc has an unknown boundary.
    """

    loops: tuple[Loop, ...] = ()
    optimised: tuple[SimplexSolution, ...] = ()
    descending: tuple[DescendingDisc, ...] = ()
    unread: int = 0

    @property
    def boundaries(self) -> list[frozenset[int]]:
        """The passes on the boundary of each, mod 2."""
        return [loop.edges for loop in self.loops] + [disc.boundary for disc in self.descending]

    @property
    def values(self) -> list[float]:
        """The highest loss on each."""
        return [disc.value for disc in self.optimised] + [disc.value for disc in self.descending]

    @property
    def brackets(self) -> list[float]:
        """How much higher each may be."""
        return [_open(disc) for disc in self.optimised] + [d.bracket for d in self.descending]


def _loops_of(found: Passes) -> int:
    """How many independent loops the passes make."""
    return max(0, len(found.passes) - len(found.minima) + 1)


def _descend(
    objective: Objective, found: Passes, given: int, settings: LandscapeSettings, seed: int
) -> tuple[Passes, list[Top], list[DescendingDisc]]:
    """Critical points of index 2, the discs below them, and the passes that these have shown."""
    for left in reversed(range(_EXTENSIONS + 1)):
        tops = find_tops(
            objective,
            found.minima,
            found.passes,
            given=given,
            size=found.size,
            walkers=settings.walkers,
            seed=seed,
        )
        discs, partings = descending_discs(
            objective, tops, found.minima, found.passes, size=found.size
        )
        if not partings or not left:
            break
        places, ways = ([one.place for one in partings], [one.way for one in partings])
        more = more_passes(found, torch.stack(places), torch.stack(ways))
        if more is None:
            break
        found = more
    return found, tops, discs


def _fill(
    objective: Objective,
    found: Passes,
    tops: list[Top],
    descending: list[DescendingDisc],
    settings: LandscapeSettings,
    seed: int,
) -> _Discs:
    """Optimised discs on short loops, and with those known the discs that descend from their peaks."""
    independent = _loops_of(found)
    if not independent:
        return _Discs()
    edges = [one.ends for one in found.passes]
    lengths = [float(segment_lengths(one.path).sum()) for one in found.passes]
    loops = candidate_loops(len(found.minima), edges, lengths, most=settings.discs * independent)
    optimised = _discs(objective, found.passes, loops, settings.simplices, seed)
    more = find_tops(
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
    """[d], the highest place of an optimised disc."""
    nodes = lattice(2, settings.subdivisions)
    corners, weights = nodes.interpolation(disc.profile.argmax[None] * settings.subdivisions)
    place: Tensor = weights[0].to(disc.points) @ disc.points[corners[0]]
    return place


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
        walk, strip = closed_walk(objective, passes, loop)
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
            _optimized(objective, around, 2, settings, seed), strips, strict=True
        )
    ]


def _optimized(
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


def _lowest_triangles(
    objective: Objective, around: Sequence[SimplexBoundary], settings: SimplexSettings, seed: int
) -> list[SimplexSolution]:
    """For each boundary the lowest triangle of those from a harmonic start and from the sides."""
    nodes = lattice(2, settings.subdivisions)
    found = _optimized(objective, around, 2, settings, seed)
    open_ = [k for k, one in enumerate(found) if one.value > max(around[k].maxima.values())]
    sides = [(k, start) for k in open_ for start in two_sided_starts(around[k].points, nodes)]
    others = _optimized(
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


def _open(simplex: SimplexSolution) -> float:
    """How much higher the value of a simplex may be than what was evaluated."""
    return max(0.0, simplex.profile.maximum + simplex.profile.bracket - simplex.value)


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
            found = _lowest_triangles(self.objective, around, self.settings, self.seed)
        else:
            found = _optimized(self.objective, around, dimension, self.settings, self.seed)
        for vertices, one, simplex in zip(wanted, around, found, strict=True):
            if not math.isfinite(simplex.profile.maximum):
                continue
            self.simplices[vertices] = simplex
            self.maxima[vertices] = simplex.profile.maximum
            self.bracket = max(self.bracket, _open(simplex))
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
        places = self.minima[list(vertices)]
        return simplex_boundary(self.objective, places, faces, self.settings, maxima=maxima)
