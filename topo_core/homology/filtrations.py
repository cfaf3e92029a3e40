"""Minima, passes and optimised simplices as one filtered simplicial complex (section 1.4).

A simplex enters at the highest loss on it and on its faces: its value is the maximum of its own
dense maximum and of the values of its faces, so that every sublevel set is a complex.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topo_core.homology.minimum_graphs import PassHeights, checked_graph

Simplex = tuple[int, ...]
Maxima = Mapping[Simplex, float] | tuple[NDArray[np.int64], NDArray[np.float64]]


@dataclass(frozen=True)
class Filtration:
    """A monotone filtration, by dimension.

    Attributes:
        simplices: of each dimension k an array [m_k, k + 1] of vertices, increasing along a row
            and sorted by rows. Vertices are 0 to n - 1.
        values: of each dimension k an array [m_k], the values at which they enter.
    """

    simplices: tuple[NDArray[np.int64], ...]
    values: tuple[NDArray[np.float64], ...]

    @property
    def dimension(self) -> int:
        """The highest dimension."""
        return len(self.simplices) - 1

    def faces(self, dimension: int) -> NDArray[np.int64]:
        """Rows [m_k, k + 1] in dimension k - 1 of the faces of each k-simplex.

        Column j is the face without vertex j; in the boundary it has the sign (-1)^j.
        """
        return _faces(self.simplices[dimension], self.simplices[dimension - 1])

    def tree(self, max_dimension: int | None = None) -> Any:
        """The ``gudhi.SimplexTree`` of the simplices up to ``max_dimension``."""
        import gudhi

        top = self.dimension if max_dimension is None else min(max_dimension, self.dimension)
        tree = gudhi.SimplexTree()
        for simplices, values in zip(
            self.simplices[: top + 1], self.values[: top + 1], strict=True
        ):
            tree.insert_batch(np.ascontiguousarray(simplices.T, dtype=np.int32), values)
        return tree


def filtration(
    losses: Sequence[float] | Mapping[int, float], heights: PassHeights, *maxima: Maxima
) -> Filtration:
    """The filtration of minima, passes and optimised simplices.

    Args:
        losses: of the vertices 0 to n - 1, in this order or by number.
        heights: of the edges, as for ``barcode``. Infinite ones are left out.
        maxima: for dimension 2, 3, ... the dense maxima of simplices on their own: a mapping from
            vertices to values, or the pair of arrays [m, k + 1] and [m]. Vertices in any order.

    Raises:
        ValueError: as for ``barcode``; a simplex with a repeated or unknown vertex, with a value
            that is not a number, given twice, or with a face that has no value.
    """
    graph = checked_graph(losses, heights)
    if set(graph.ids) != set(range(len(graph.ids))):
        raise ValueError(
            "the vertices of a filtration are 0 to n - 1; give losses in that order, as a sequence."
        )
    ids = np.array(graph.ids, dtype=np.int64)
    vertices = np.arange(len(ids))[:, None]
    births = np.empty(len(ids))
    births[ids] = graph.births
    known = graph.heights < np.inf
    edges = np.stack([ids[graph.low[known]], ids[graph.high[known]]], axis=1)
    simplices, values = [vertices], [births]
    for dimension, (given, own_maxima) in enumerate(
        [(edges, graph.heights[known]), *map(_as_arrays, maxima)], start=1
    ):
        if not len(given):
            break
        rows, own = _sorted(given, own_maxima, dimension, len(ids))
        faces = _faces(rows, simplices[-1])
        simplices.append(rows)
        values.append(np.maximum(own, values[-1][faces].max(axis=1)))
    return Filtration(tuple(simplices), tuple(values))


def filtration_of_simplices(values: Mapping[Simplex, float]) -> Filtration:
    """The filtration of simplices (tuples of vertices 0 to n - 1) that enter at ``values``.

    Raises:
        ValueError: as for ``filtration``.
    """
    by_dimension: dict[int, dict[Simplex, float]] = {0: {}, 1: {}}
    for simplex, value in values.items():
        if not isinstance(simplex, tuple) or not simplex:
            raise ValueError(
                f"{simplex!r} is not a simplex; name each by the tuple of its vertices, as in (0, 2)."
            )
        by_dimension.setdefault(len(simplex) - 1, {})[simplex] = value
    top = max(by_dimension)
    losses = {vertex: value for (vertex,), value in by_dimension[0].items()}
    edges = {(i, j): value for (i, j), value in by_dimension[1].items()}
    return filtration(losses, edges, *(by_dimension.get(k, {}) for k in range(2, top + 1)))


def _as_arrays(maxima: Maxima) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    if isinstance(maxima, Mapping):
        values = np.fromiter(maxima.values(), dtype=np.float64, count=len(maxima))
        return np.array(list(maxima), dtype=np.int64), values
    return np.asarray(maxima[0], dtype=np.int64), np.asarray(maxima[1], dtype=np.float64)


def _sorted(
    given: NDArray[np.int64], own: NDArray[np.float64], dimension: int, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Checked simplices with sorted vertices, in sorted order, and their values."""
    if given.ndim != 2 or given.shape[1] != dimension + 1 or len(given) != len(own):
        raise ValueError(
            f"the simplices of dimension {dimension} have an array of shape {given.shape} and "
            f"{len(own)} values; give {dimension + 1} vertices and one value for each."
        )
    rows = np.sort(given, axis=1)
    wrong = (rows[:, 0] < 0) | (rows[:, -1] >= count) | (np.diff(rows, axis=1) == 0).any(axis=1)
    if wrong.any():
        raise ValueError(
            f"the simplex {tuple(given[wrong][0].tolist())} must have {dimension + 1} different "
            f"vertices from 0 to {count - 1}."
        )
    if np.isnan(own).any():
        name = tuple(rows[np.isnan(own)][0].tolist())
        raise ValueError(f"the value of the simplex {name} is nan; it must be a number.")
    order = np.lexsort(rows.T[::-1])
    rows, own = rows[order], own[order]
    again = (np.diff(rows, axis=0) == 0).all(axis=1)
    if again.any():
        name = tuple(rows[:-1][again][0].tolist())
        raise ValueError(f"the simplex {name} is given twice; give each simplex one value.")
    return rows, own


def _faces(simplices: NDArray[np.int64], below: NDArray[np.int64]) -> NDArray[np.int64]:
    base = int(max(simplices.max(initial=0), below.max(initial=0))) + 1
    codes = _codes(below, base)
    faces = np.empty(simplices.shape, dtype=np.int64)
    for omitted in range(simplices.shape[1]):
        face = np.delete(simplices, omitted, axis=1)
        wanted = _codes(face, base)
        rows = np.searchsorted(codes, wanted).clip(max=len(codes) - 1)
        missing = codes[rows] != wanted
        if missing.any():
            raise ValueError(
                f"the simplex {tuple(simplices[missing][0].tolist())} has the face "
                f"{tuple(face[missing][0].tolist())}, which has no value; give it, or leave out "
                "the simplex."
            )
        faces[:, omitted] = rows
    return faces


def _codes(simplices: NDArray[np.int64], base: int) -> NDArray[np.int64]:
    """One number a row, increasing in the order of rows."""
    codes = simplices[:, 0].copy()
    for column in range(1, simplices.shape[1]):
        codes = codes * base + simplices[:, column]
    return codes


def all_simplices(count: int, dimension: int) -> NDArray[np.int64]:
    """All C(n, k + 1) simplices of ``dimension`` k on ``count`` vertices, [m, k + 1], sorted."""
    rows = itertools.chain.from_iterable(itertools.combinations(range(count), dimension + 1))
    return np.fromiter(rows, dtype=np.int64).reshape(-1, dimension + 1)
