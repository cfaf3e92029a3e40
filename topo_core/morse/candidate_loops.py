"""Short loops of a graph of passes: those that discs may fill."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from topo_core.morse.cell_complexes import Edge


@dataclass(frozen=True)
class Loop:
    """A closed curve of edges in order, each with its direction.

    Attributes:
        steps: (edge, forward) pairs; forward is from the first end to the second.
    """

    steps: tuple[tuple[int, bool], ...]

    @property
    def edges(self) -> frozenset[int]:
        """The edges, without order."""
        return frozenset(edge for edge, _ in self.steps)


def candidate_loops(
    count: int, edges: Sequence[Edge], lengths: Sequence[float], *, most: int
) -> list[Loop]:
    """Short simple loops of a graph, a basis of all loops among them (Horton 1987).

    First, for each vertex and each edge, the loop of that edge and the shortest paths from its ends to the
    vertex. Then the sums of two of these that are one simple loop, shortest first, up to ``most``. Last, up
    to half as many concatenations of two loops that meet in a minimum.
    """
    found: dict[frozenset[int], float] = {}
    for start in range(count):
        paths = _shortest(start, count, edges, lengths)
        for edge, (a, b) in enumerate(edges):
            if a not in paths or b not in paths:
                continue
            first, second = paths[a], paths[b]
            if edge in first or edge in second or set(first) & set(second):
                continue
            loop = frozenset([edge, *first, *second])
            if _in_order(loop, edges) is not None:
                found[loop] = sum(lengths[e] for e in loop)
    sums: dict[frozenset[int], float] = {}
    for one, other in itertools.combinations(found, 2):
        if one & other:
            both = one ^ other
            if both not in found and both not in sums:
                sums[both] = sum(lengths[e] for e in both)
    for both in sorted(sums, key=lambda s: (sums[s], sorted(s))):
        if len(found) >= most:
            break
        if _in_order(both, edges) is not None:
            found[both] = sums[both]
    order = sorted(found, key=lambda s: (found[s], sorted(s)))
    ordered = [closed for loop in order if (closed := _in_order(loop, edges)) is not None]
    return ordered + _joined(ordered[:most], edges, lengths, most // 2)


def _joined(
    loops: Sequence[Loop], edges: Sequence[Edge], lengths: Sequence[float], most: int
) -> list[Loop]:
    """Concatenations of two loops that meet in a minimum and share no edge, in both orientations.

    Where both descend one valley to that minimum, one of the two encloses the points between them.
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
    """The steps of ``loop``, beginning at ``vertex``."""
    starts = [edges[edge][0 if forward else 1] for edge, forward in loop.steps]
    first = starts.index(vertex)
    return loop.steps[first:] + loop.steps[:first]


def _shortest(
    start: int, count: int, edges: Sequence[Edge], lengths: Sequence[float]
) -> dict[int, tuple[int, ...]]:
    """Edges of the shortest path from ``start`` to each vertex that can be reached (Dijkstra)."""
    # Of parallel edges the shortest; a graph of SciPy has no others, and none from a vertex to itself.
    shortest: dict[Edge, int] = {}
    for edge, (a, b) in enumerate(edges):
        pair = min(a, b), max(a, b)
        if a != b and (pair not in shortest or lengths[edge] < lengths[shortest[pair]]):
            shortest[pair] = edge
    graph = (
        coo_array(
            (
                [lengths[edge] for edge in shortest.values()],
                tuple(np.array([*shortest], np.int32).T),
            ),
            shape=(count, count),
        )
        if shortest
        else coo_array((count, count))
    )
    distances, before = dijkstra(graph, directed=False, indices=start, return_predecessors=True)
    paths: dict[int, tuple[int, ...]] = {start: ()}
    for vertex in distances.argsort(kind="stable").tolist():
        if vertex != start and math.isfinite(distances[vertex]):
            last = int(before[vertex])
            paths[vertex] = (*paths[last], shortest[min(last, vertex), max(last, vertex)])
    return paths


def _in_order(loop: frozenset[int], edges: Sequence[Edge]) -> Loop | None:
    """The loop with its edges in order; None where the edges are not one simple closed curve."""
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
