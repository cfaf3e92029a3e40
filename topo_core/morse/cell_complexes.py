"""Minima, passes and discs as a cell complex, and its barcode of index 1.

Where two minima are joined by several passes a simplicial complex on the minima is too poor. In a
cell complex each pass is an edge of its own, and a disc may have any loop of edges as boundary.
An edge between two components merges them; every other one opens a loop at its height. The
boundaries of discs, lowest first, are reduced over Z/2 to a canonical form (Barannikov 1994): what
is left of a boundary pairs the disc with the youngest loop that it fills.
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
    """A loop and the disc that fills it, at once where the bar has no length.

    Attributes:
        edge: the edge that opens the loop.
        disc: the disc.
        death: its value, or the height of the edge where that is higher.
        open: how much higher the death may be.
    """

    edge: int
    disc: int
    death: float
    open: float


def loop_bars(
    count: int,
    edges: Sequence[Edge],
    heights: Sequence[float],
    boundaries: Sequence[frozenset[int]],
    values: Sequence[float],
    brackets: Sequence[float] | None = None,
) -> tuple[LoopBar, ...]:
    """The bars of index 1 that have a length, by birth; arguments as of ``fillings``."""
    filled, unfilled = fillings(count, edges, heights, boundaries, values, brackets)
    bars = [
        LoopBar(heights[one.edge], one.death, one.edge, one.disc)
        for one in filled
        if one.death > heights[one.edge]
    ]
    bars += [LoopBar(heights[edge], math.inf, edge, None) for edge in unfilled]
    return tuple(sorted(bars, key=lambda bar: (bar.birth, bar.death, bar.edge)))


def fillings(
    count: int,
    edges: Sequence[Edge],
    heights: Sequence[float],
    boundaries: Sequence[frozenset[int]],
    values: Sequence[float],
    brackets: Sequence[float] | None = None,
) -> tuple[list[Filling], list[int]]:
    """The discs that fill loops, and the edges whose loops no disc fills.

    Discs enter in the order of the highest that they may be, value and bracket together: one that
    is known well is taken before one that may be as low or not. A disc that fills nothing would
    fill nothing if it were higher, so its bracket is no part of the uncertainty of the bars.

    Args:
        count: of the vertices.
        edges: their ends; parallel edges and loops at one vertex are allowed.
        heights: of the edges.
        boundaries: of each disc the edges of its boundary, mod 2.
        values: of the discs; raised to the heights of their boundaries where below.
        brackets: how much higher each disc may be; not at all where None.
    """
    order = sorted(range(len(edges)), key=lambda e: (heights[e], e))
    rank = {edge: number for number, edge in enumerate(order)}
    components = DisjointSet(range(count))
    # An edge inside one component opens a loop; every other one merges two.
    opens = {edge for edge in order if not components.merge(*edges[edge])}
    floors = [max((heights[e] for e in boundary), default=-math.inf) for boundary in boundaries]
    upper = [
        max(value + bracket, floor)
        for value, bracket, floor in zip(
            values, brackets or [0.0] * len(boundaries), floors, strict=True
        )
    ]
    reduced: dict[int, frozenset[int]] = {}
    filled = []
    for disc in sorted(range(len(upper)), key=lambda d: (upper[d], d)):
        column = boundaries[disc]
        while column:
            youngest = max(column, key=rank.__getitem__)
            if youngest not in reduced:
                reduced[youngest] = column
                death = max(values[disc], floors[disc])
                filled.append(Filling(youngest, disc, death, upper[disc] - death))
                break
            column = column ^ reduced[youngest]
    return filled, sorted(opens - reduced.keys())
