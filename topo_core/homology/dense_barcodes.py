"""Basins inside paths: the barcode of all samples of all paths.

In the dense-profile complex every sample of every path is a vertex with its loss, and neighbours
along a path are joined (a lower-star filtration). A birth inside a path is a basin that the path
crosses and that belongs to none of the minima. The bar of a minimum ends where its path first
reaches a lower point, which is the first passage of formula (1), so these bars are never longer
than those of whole paths.

Index 0 depends only on the local minima of a profile and the maxima between them, so a path of
hundreds of samples is reduced to a few vertices and edges, with the same bars.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from topo_core.homology.barcodes import Bar, Barcode, barcode
from topo_core.homology.minimum_graphs import Minimum, Pair

Samples = tuple[ArrayLike, ArrayLike]


@dataclass(frozen=True)
class Dip:
    """A basin inside a path that belongs to none of the minima.

    Attributes:
        pair: the ends of the path.
        position: of its lowest sample, a fraction of the arc length.
        loss: of its lowest sample.
        depth: how far the loss must rise from it, along any of the known paths, before a lower
            point is reached; infinite where no lower point is known.
    """

    pair: Pair
    position: float
    loss: float
    depth: float


@dataclass(frozen=True)
class DenseBarcode:
    """The barcode of the dense-profile complex.

    Attributes:
        minima: the bars of the minima. A minimum from which a path falls directly into a dip has a
            bar of no length; the long bar is that of the dip.
        dips: the births inside paths, deepest first.
    """

    minima: Barcode
    dips: tuple[Dip, ...]


def dense_barcode(
    losses: Sequence[float] | Mapping[Minimum, float],
    profiles: Mapping[Pair, Samples],
    *,
    least: float = 0.0,
) -> DenseBarcode:
    """The barcode of all samples of all paths.

    Args:
        losses: of the minima, by position or by id.
        profiles: for each path its positions [m], increasing from 0 at the first end of the pair
            to 1 at the other, and the losses [m] there.
        least: dips that are not deeper than this are ripples and are not reported.

    Raises:
        ValueError: as for ``barcode``; a profile with fewer than two samples, with unequal
            lengths, or with a sample that is not a number. An infinite loss is allowed: the path
            connects nothing across it.
    """
    births = dict(losses) if isinstance(losses, Mapping) else dict(enumerate(losses))
    ids = sorted(births)
    number = {minimum: position for position, minimum in enumerate(ids)}
    vertex_losses: list[float] = [births[minimum] for minimum in ids]
    edges: dict[tuple[int, int], float] = {}
    path_of: dict[tuple[int, int], Pair] = {}
    inside: list[tuple[Pair, float]] = []
    for (i, j), samples in profiles.items():
        positions, values = _checked((i, j), samples)
        bottoms = _bottoms(values)
        first = len(vertex_losses)
        vertex_losses.extend(values[bottoms].tolist())
        inside.extend(((i, j), float(positions[bottom])) for bottom in bottoms)
        vertices = [number[i], *range(first, first + len(bottoms)), number[j]]
        cuts = [0, *bottoms, len(values) - 1]
        for a, b, low, high in zip(vertices[:-1], vertices[1:], cuts[:-1], cuts[1:], strict=True):
            # The ends are the minima themselves, whose losses may differ by rounding.
            top = max(float(values[low : high + 1].max()), vertex_losses[a], vertex_losses[b])
            if top < edges.get((a, b), np.inf):
                edges[a, b], path_of[a, b] = top, (i, j)
    return _split(ids, barcode(vertex_losses, edges), path_of, inside, least)


def _split(
    ids: Sequence[Minimum],
    whole: Barcode,
    path_of: Mapping[tuple[int, int], Pair],
    inside: Sequence[tuple[Pair, float]],
    least: float,
) -> DenseBarcode:
    """The bars of the minima, with their ids, and the dips."""
    bars, dips = [], []
    for bar in whole.bars:
        if bar.minimum < len(ids):
            saddle = path_of[bar.saddle] if bar.saddle else None
            bars.append(Bar(bar.birth, bar.death, ids[bar.minimum], saddle))
        elif bar.length > least:
            pair, position = inside[bar.minimum - len(ids)]
            dips.append(Dip(pair, position, bar.birth, bar.length))
    dips.sort(key=lambda dip: (-dip.depth, dip.loss))
    return DenseBarcode(Barcode(tuple(bars), whole.method), tuple(dips))


def _checked(pair: Pair, samples: Samples) -> tuple[NDArray[Any], NDArray[Any]]:
    positions = np.asarray(samples[0], dtype=np.float64)
    values = np.asarray(samples[1], dtype=np.float64)
    if positions.shape != values.shape or positions.ndim != 1 or len(positions) < 2:
        raise ValueError(
            f"the profile of the path {pair!r} has positions of shape {positions.shape} and "
            f"losses of shape {values.shape}; give two samples or more, one loss a position."
        )
    if np.isnan(values).any():
        raise ValueError(
            f"the profile of the path {pair!r} has the loss nan at position "
            f"{positions[np.isnan(values)][0]}; leave out a path whose evaluation failed."
        )
    return positions, values


def _bottoms(values: NDArray[Any]) -> list[int]:
    """Indices of the local minima inside ``values`` [m]; of a flat one, the first index."""
    with np.errstate(invalid="ignore"):  # the difference of two infinite losses: flat
        steps = np.nan_to_num(np.diff(values), nan=0.0)
    moving = np.flatnonzero(steps)  # flat stretches are taken out
    turns = (steps[moving[:-1]] < 0) & (steps[moving[1:]] > 0)
    return [int(index) + 1 for index in moving[:-1][turns]]
