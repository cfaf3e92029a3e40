"""Minima, passes and discs as a cell complex, and its barcode of index 1.

Where several passes join two minima, a simplicial complex on the minima cannot tell them apart. In a cell
complex each pass is an edge of its own, and a disc may have any loop of edges as boundary. An edge between
two components merges them; every other one opens a loop at its height. The boundaries of discs, lowest first,
are reduced over Z/2 to a canonical form (Barannikov 1994): what remains of a boundary pairs the disc with the
youngest loop that it fills.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.cluster.hierarchy import DisjointSet

from topo_core.homology.barcodes import Interval

Edge = tuple[int, int]


@dataclass(frozen=True)
class LoopBar(Interval):
    """A bar of index 1.

    Attributes:
        edge: the edge that opens the loop.
        disc: the disc that fills it; None for an infinite bar.
    """

    edge: int
    disc: int | None


@dataclass(frozen=True)
class Filling:
    """A loop and the disc that fills it; the bar between them may have length zero.

    Attributes:
        edge: the edge that opens the loop.
        disc: the disc.
        death: the value of the disc, or the height of the edge if that is higher.
        open: by how much the death may be higher, from the bracket of the disc.
    """

    edge: int
    disc: int
    death: float
    open: float


@dataclass(frozen=True)
class CellComplex:
    """Vertices, edges and discs with their values.

    Attributes:
        vertices: number of vertices.
        edges: the two vertices of each edge; parallel edges and loops at one vertex are allowed.
        heights: of the edges.
        boundaries: the edges of the boundary of each disc, mod 2.
        values: of the discs; a value below the boundary of its disc is raised to it.
        brackets: by how much the value of each disc may be higher; None for 0.
    """

    vertices: int
    edges: Sequence[Edge]
    heights: Sequence[float]
    boundaries: Sequence[frozenset[int]] = ()
    values: Sequence[float] = ()
    brackets: Sequence[float] | None = None

    def loop_bars(self) -> tuple[LoopBar, ...]:
        """The bars of index 1 that have a length, by birth."""
        filled, unfilled = self.fillings()
        births = self.heights
        bars = [
            LoopBar(births[one.edge], one.death, one.edge, one.disc)
            for one in filled
            if one.death > births[one.edge]
        ]
        bars += [LoopBar(births[edge], math.inf, edge, None) for edge in unfilled]
        return tuple(sorted(bars, key=lambda bar: (bar.birth, bar.death, bar.edge)))

    def fillings(self) -> tuple[list[Filling], list[int]]:
        """The discs that fill loops, and the edges whose loops no disc fills.

        Discs enter in the order of value plus bracket, so a disc with an accurate value enters before one
        that may or may not be as low. A disc that fills nothing would also fill nothing if it were higher, so
        its bracket does not contribute to the uncertainty of the bars.
        """
        heights = self.heights
        order = sorted(range(len(self.edges)), key=lambda e: (heights[e], e))
        rank = {edge: number for number, edge in enumerate(order)}
        components = DisjointSet(range(self.vertices))
        # An edge inside one component opens a loop; every other one merges two.
        opens = {edge for edge in order if not components.merge(*self.edges[edge])}
        floors = [max((heights[e] for e in edges), default=-math.inf) for edges in self.boundaries]
        brackets = self.brackets or [0.0] * len(self.values)
        upper = [
            max(value + bracket, floor)
            for value, bracket, floor in zip(self.values, brackets, floors, strict=True)
        ]
        reduced: dict[int, frozenset[int]] = {}
        filled = []
        for disc in sorted(range(len(upper)), key=lambda d: (upper[d], d)):
            column = self.boundaries[disc]
            while column:
                youngest = max(column, key=rank.__getitem__)
                if youngest not in reduced:
                    reduced[youngest] = column
                    death = max(self.values[disc], floors[disc])
                    filled.append(Filling(youngest, disc, death, upper[disc] - death))
                    break
                column = column ^ reduced[youngest]
        return filled, sorted(opens - reduced.keys())
