"""The settings and the result of the search over a whole landscape."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from topo_core.homology.barcodes import Barcode, Bars
from topo_core.homology.persistent_homology import HomologyBarcode
from topo_core.morse.cell_complexes import LoopBar
from topo_core.morse.descent_fans import DescendingDisc
from topo_core.morse.passes import Pass
from topo_core.paths.settings import PathSettings
from topo_core.simplices.optimize import SimplexSolution
from topo_core.simplices.settings import SimplexSettings

Vertices = tuple[int, ...]


@dataclass(frozen=True)
class LandscapeSettings:
    """How a whole landscape is reduced.

    Attributes:
        paths: of every pair of minima; not used by ``subdivide``.
        simplices: of every simplex of dimension 2 or more, and of the discs.
        subdivide: use passes as edges, with several edges between two minima that several passes join.
            Without it a loop is found only if three or more minima surround it and the paths between them do
            not all pass it on the same side.
        discs: with ``subdivide``, number of optimised discs for each independent loop.
        walkers: with ``subdivide``, number of random starts in each round of the search for minima and passes
            away from the paths between minima, and for critical points of index 2 away from the peaks of
            discs; 0 for none.
        reach: largest distance from the mean of the given minima, along each axis, at which walkers start;
            None for twice the largest distance between two of them.
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
    """The barcodes of a landscape, with the points and simplices that they are computed from.

    Attributes:
        minima: [n, d]; with ``subdivide`` the given ones without repeats, then those that the search found.
        losses: of the minima.
        heights: of the lowest path between two minima, by pair, from which index 0 is computed. A pair
            whose path failed (a loss that is not finite) has none.
        passes: with ``subdivide``, all passes that were found.
        quiet_rounds: with ``subdivide``, rounds of walkers at the end of the search that found no new
            point; with fewer than two, points are likely to be missing.
        simplices: optimised, by vertices, or by number for discs.
        descending: with ``subdivide``, the discs that descend from critical points of index 2.
            Bars of index 1 number them after those of ``simplices``.
        unread: critical points of index 2 whose disc is left out, since its boundary could not be
            determined: a pass or a minimum beside it may be missing.
        barcodes: by index; index 0 by the elder rule. With ``subdivide`` all indices are of the same
            passes. Without it index 0 is of the paths, and higher indices are of the complex of
            simplices, whose edges are polygons on their lattice.
        index_0_of_simplices: without ``subdivide``, index 0 of that complex, to compare with the higher
            indices; None where no simplex was requested.
        to_scores: by index.
        epsilon: by index, the sampling error of a bar.
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
    index_0_of_simplices: HomologyBarcode | None = None
