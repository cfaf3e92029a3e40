"""Minima, passes and discs as a cell complex, and its barcode of index 1.

Where two minima are joined by several passes a simplicial complex on the minima is too poor. In a
cell complex each pass is an edge of its own, and a disc may have any loop of edges as boundary.
An edge between two components merges them; every other one opens a loop at its height. The
boundaries of discs, lowest first, are reduced over Z/2 to a canonical form (Barannikov 1994): what
is left of a boundary pairs the disc with the youngest loop that it fills.
"""

import heapq
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from topo_core.homology.barcodes import Interval

Edge = tuple[int, int]


@dataclass(frozen=True)
class Loop:
    """A closed walk: edges in order, each with the direction in which it is gone along.

    Attributes:
        steps: (edge, forward) pairs; forward is from the first end to the second.
    """

    steps: tuple[tuple[int, bool], ...]

    @property
    def edges(self) -> frozenset[int]:
        """The edges, without order."""
        return frozenset(edge for edge, _ in self.steps)


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
    rank = {edge: place for place, edge in enumerate(order)}
    parent = list(range(count))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    opens: set[int] = set()
    for edge in order:
        a, b = (root(end) for end in edges[edge])
        if a == b:
            opens.add(edge)
        else:
            parent[max(a, b)] = min(a, b)
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


def candidate_loops(
    count: int, edges: Sequence[Edge], lengths: Sequence[float], *, most: int
) -> list[Loop]:
    """Short simple loops of a graph, a basis of all loops among them (Horton 1987).

    For each vertex and each edge, the loop of that edge and the shortest ways from its ends to the
    vertex. Then sums of two of these that are one simple loop, shortest first, up to ``most``; and
    half as many of two that meet in a minimum, one after the other.
    """
    found: dict[frozenset[int], float] = {}
    for start in range(count):
        ways = _shortest(start, count, edges, lengths)
        for edge, (a, b) in enumerate(edges):
            if a not in ways or b not in ways:
                continue
            first, second = ways[a], ways[b]
            if edge in first or edge in second or set(first) & set(second):
                continue
            loop = frozenset([edge, *first, *second])
            if _walk(loop, edges) is not None:
                found[loop] = sum(lengths[e] for e in loop)
    sums: dict[frozenset[int], float] = {}
    for one, other in itertools.combinations(found, 2):
        if one & other:
            both = one ^ other
            if both not in found and both not in sums:
                sums[both] = sum(lengths[e] for e in both)
    for loop in sorted(sums, key=lambda s: (sums[s], sorted(s))):
        if len(found) >= most:
            break
        if _walk(loop, edges) is not None:
            found[loop] = sums[loop]
    order = sorted(found, key=lambda s: (found[s], sorted(s)))
    walks = [walk for loop in order if (walk := _walk(loop, edges)) is not None]
    return walks + _joined(walks[:most], edges, lengths, most // 2)


def _joined(
    loops: Sequence[Loop], edges: Sequence[Edge], lengths: Sequence[float], most: int
) -> list[Loop]:
    """Two loops that meet in a minimum and share no edge, one after the other, both ways round.

    Where both go down one valley to that minimum, one of the two encloses what lies between them.
    """
    pairs: list[tuple[float, Loop, Loop, int]] = []
    for one, other in itertools.combinations(loops, 2):
        meet = {end for e in one.edges for end in edges[e]} & {
            end for e in other.edges for end in edges[e]
        }
        if len(meet) == 1 and not one.edges & other.edges:
            length = sum(lengths[e] for e in one.edges | other.edges)
            pairs.append((length, one, other, meet.pop()))
    pairs.sort(key=lambda pair: (pair[0], pair[1].steps, pair[2].steps))
    found: list[Loop] = []
    for _, one, other, vertex in pairs[: most // 2]:
        first, second = (_from(vertex, loop, edges) for loop in (one, other))
        back = tuple((edge, not forward) for edge, forward in reversed(second))
        found += [Loop(first + second), Loop(first + back)]
    return found


def _from(vertex: int, loop: Loop, edges: Sequence[Edge]) -> tuple[tuple[int, bool], ...]:
    """The steps of ``loop``, from ``vertex`` on."""
    starts = [edges[edge][0 if forward else 1] for edge, forward in loop.steps]
    place = starts.index(vertex)
    return loop.steps[place:] + loop.steps[:place]


def _shortest(
    start: int, count: int, edges: Sequence[Edge], lengths: Sequence[float]
) -> Mapping[int, tuple[int, ...]]:
    """Edges of the shortest way from ``start`` to each vertex that can be reached (Dijkstra)."""
    around: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for edge, (a, b) in enumerate(edges):
        around[a].append((b, edge))
        around[b].append((a, edge))
    ways: dict[int, tuple[int, ...]] = {}
    queue: list[tuple[float, int, tuple[int, ...]]] = [(0.0, start, ())]
    while queue:
        length, node, way = heapq.heappop(queue)
        if node in ways:
            continue
        ways[node] = way
        for other, edge in around[node]:
            if other not in ways:
                heapq.heappush(queue, (length + lengths[edge], other, (*way, edge)))
    return ways


def _walk(loop: frozenset[int], edges: Sequence[Edge]) -> Loop | None:
    """The loop as a closed walk; None where the edges are not one simple closed curve."""
    degree: dict[int, int] = {}
    for edge in loop:
        for end in edges[edge]:
            degree[end] = degree.get(end, 0) + 1
    if not loop or any(value != 2 for value in degree.values()):
        return None
    first = min(loop)
    start, here = edges[first]
    steps, left = [(first, True)], set(loop) - {first}
    while here != start:
        onward = [e for e in sorted(left) if here in edges[e]]
        if not onward:
            return None
        edge = onward[0]
        left.discard(edge)
        forward = edges[edge][0] == here
        steps.append((edge, forward))
        here = edges[edge][1] if forward else edges[edge][0]
    return Loop(tuple(steps)) if not left else None
