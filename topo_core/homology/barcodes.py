"""The barcode of minima (section 1.1), by the elder rule and by Algorithm 1.

Minima are vertices that are born at their losses, passes are edges at their heights. As the level
rises, two components merge at the first edge between them, and the one whose lowest minimum is
higher dies there: that is formula (1), where a path may lead through other minima (``elder``).
Algorithm 1 of the paper considers only direct paths to lower minima (``direct``), so its bars are
never shorter.

Every minimum has exactly one bar. A bar of no length belongs to a minimum from which a path leads
lower without a climb; it is listed like the others, and ``Barcode.zero_length`` counts these bars.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from topo_core.homology.minimum_graphs import (
    Minimum,
    MinimumGraph,
    Pair,
    PassHeights,
    checked_graph,
    merges,
    numbers,
)

BarcodeMethod = Literal["elder", "direct"]


@dataclass(frozen=True)
class Interval:
    """A bar from ``birth`` to ``death``, in units of the loss."""

    birth: float
    death: float

    @property
    def length(self) -> float:
        """death - birth: by how much the loss must rise before it can fall below ``birth``."""
        return self.death - self.birth


@dataclass(frozen=True)
class Bar(Interval):
    """A segment of the barcode of minima.

    Attributes:
        birth: loss of the minimum.
        death: lowest pass that leads lower; infinite for the lowest minimum.
        minimum: its id.
        saddle: the pair of minima whose path is that pass; None for an infinite bar.
    """

    minimum: Minimum
    saddle: Pair | None


B = TypeVar("B", bound=Interval)


@dataclass(frozen=True)
class Bars(Generic[B]):
    """Bars in the order of their births."""

    bars: tuple[B, ...]

    @property
    def finite(self) -> tuple[B, ...]:
        """The bars that end."""
        return tuple(bar for bar in self.bars if math.isfinite(bar.death))

    @property
    def infinite(self) -> tuple[B, ...]:
        """The bars that do not end."""
        return tuple(bar for bar in self.bars if not math.isfinite(bar.death))

    @property
    def longest(self) -> B | None:
        """The longest finite bar; None where there is none."""
        return max(self.finite, key=lambda bar: bar.length, default=None)


AnyBars: TypeAlias = Bars[Any] | ArrayLike
"""A barcode, or its rows (birth, death) as plain numbers."""


def intervals(bars: AnyBars) -> tuple[Interval, ...]:
    """The bars of a barcode, or of rows (birth, death).

    Raises:
        ValueError: rows that are not pairs of numbers, an infinite birth, or a death below the birth.
    """
    if isinstance(bars, Bars):
        return tuple(bars.bars)
    rows = numbers(bars, "bars")
    if rows.size == 0:
        rows = rows.reshape(0, 2)
    if rows.ndim != 2 or rows.shape[1] != 2:
        raise ValueError(
            f"bars has the shape {rows.shape}; give a barcode, or rows of a birth and a death."
        )
    wrong = ~(np.isfinite(rows[:, 0]) & (rows[:, 1] >= rows[:, 0]))
    if wrong.any():
        birth, death = rows[wrong][0].tolist()
        raise ValueError(
            f"a bar goes from {birth} to {death}; a birth is finite, and no death is below it."
        )
    return tuple(Interval(birth, death) for birth, death in rows.tolist())


@dataclass(frozen=True)
class Barcode(Bars[Bar]):
    """The barcode of minima: one bar for each minimum.

    The lowest minimum has an infinite bar, and so has each minimum from which no known pass leads
    to a lower one yet.
    """

    method: BarcodeMethod
    index: ClassVar[int] = 0

    @property
    def complete(self) -> bool:
        """Whether every minimum but the lowest is connected to a lower one."""
        return len(self.infinite) == 1

    @property
    def zero_length(self) -> int:
        """How many bars have no length."""
        return sum(1 for bar in self.bars if bar.length == 0)


def barcode(
    losses: Sequence[float] | Mapping[Minimum, float],
    heights: PassHeights,
    method: BarcodeMethod = "elder",
) -> Barcode:
    """The barcode of minima with known passes.

    Args:
        losses: of the minima, by position or by id. Ties are broken by the order of the ids.
        heights: of the passes, by pair of ids in either order, or a symmetric array [n, n] with
            its diagonal not read. A pass that is missing or infinite is not known yet.
        method: ``elder``, or ``direct`` for Algorithm 1 to the letter.

    Raises:
        ValueError: a loss is not finite; a height names an unknown minimum, is not a number, or
            is below one of its ends; an unknown method.
    """
    return barcode_of(checked_graph(losses, heights), method)


def barcode_of(
    graph: MinimumGraph, method: BarcodeMethod, *, without: int | None = None
) -> Barcode:
    """``barcode`` of checked input, with the minimum of rank ``without`` left out."""
    if method == "elder":
        deaths = {merge.younger: merge.index for merge in merges(graph, without=without)}
    elif method == "direct":
        deaths = _direct(graph, without)
    else:
        raise ValueError(f"method is {method!r}; choose elder or direct.")
    bars = []
    for rank, minimum in enumerate(graph.ids):
        if rank == without:
            continue
        death, saddle = math.inf, None
        if rank in deaths:
            death, saddle = float(graph.heights[deaths[rank]]), graph.pair(deaths[rank])
        bars.append(Bar(float(graph.births[rank]), death, minimum, saddle))
    return Barcode(tuple(bars), method)


def _direct(graph: MinimumGraph, without: int | None) -> dict[int, int]:
    """For each minimum, the lowest direct path to a lower minimum."""
    order = graph.order_without(without)
    ranks, first = np.unique(graph.high[order], return_index=True)
    return dict(zip(ranks.tolist(), order[first].tolist(), strict=True))
