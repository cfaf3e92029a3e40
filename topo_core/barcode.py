"""The barcode of minima (section 1.1), by the elder rule and by Algorithm 1.

Minima are vertices that are born at their losses, passes are edges at their heights. Going up, two
components merge at the first edge between them, and the one whose lowest minimum is higher dies there:
that is formula (1), where a path may lead through other minima (`elder`). Algorithm 1 of the paper looks
at direct paths to lower minima alone (`direct`), so its bars are never shorter.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Method = Literal["elder", "direct"]
Minimum = Hashable
Pair = tuple[Minimum, Minimum]


@dataclass(frozen=True)
class Bar:
    """A segment of the barcode.

    Attributes:
        birth: loss of the minimum.
        death: lowest pass that leads lower; infinite for the lowest minimum.
        minimum: its id.
        saddle: the pair of minima whose path is that pass; None for an infinite bar.
    """

    birth: float
    death: float
    minimum: Minimum
    saddle: Pair | None

    @property
    def length(self) -> float:
        """The penalty for escaping: death - birth."""
        return self.death - self.birth


@dataclass(frozen=True)
class Barcode:
    """Bars in the order of their births."""

    bars: tuple[Bar, ...]
    method: Method

    @property
    def finite(self) -> tuple[Bar, ...]:
        return tuple(bar for bar in self.bars if math.isfinite(bar.death))

    @property
    def infinite(self) -> tuple[Bar, ...]:
        """One for the lowest minimum, and one more for each minimum that is not yet connected."""
        return tuple(bar for bar in self.bars if not math.isfinite(bar.death))

    @property
    def longest(self) -> Bar | None:
        """The longest finite bar."""
        return max(self.finite, key=lambda bar: bar.length, default=None)


def barcode(
    losses: Sequence[float] | Mapping[Minimum, float],
    heights: Mapping[Pair, float],
    method: Method = "elder",
) -> Barcode:
    """The barcode of minima with known passes.

    Args:
        losses: of the minima, by position or by id. Ties are broken by the order of the ids.
        heights: of the passes, by pair of ids in either order; missing pairs count as infinite.
        method: `elder`, or `direct` for Algorithm 1 to the letter.

    Raises:
        ValueError: a height names an unknown minimum, is not a number, or is below one of its ends.
    """
    births = dict(losses) if isinstance(losses, Mapping) else dict(enumerate(losses))
    order = sorted(births, key=lambda m: (births[m], m))
    rank = {minimum: place for place, minimum in enumerate(order)}
    edges = []
    for (a, b), height in heights.items():
        _check(a, b, height, births)
        low, high = sorted((rank[a], rank[b]))
        edges.append((height, high, low, (a, b)))
    edges.sort(key=lambda edge: edge[:3])
    if method == "elder":
        deaths = _elder(len(order), edges)
    elif method == "direct":
        deaths = _direct(edges)
    else:
        raise ValueError(f"method is {method!r}; choose elder or direct.")
    none: tuple[float, Pair | None] = (math.inf, None)
    bars = []
    for place, minimum in enumerate(order):
        death, saddle = deaths.get(place, none)
        bars.append(Bar(births[minimum], death, minimum, saddle))
    return Barcode(tuple(bars), method)


_Edge = tuple[float, int, int, Pair]


def _elder(count: int, edges: Sequence[_Edge]) -> dict[int, tuple[float, Pair | None]]:
    """Kruskal with the elder rule: roots are the lowest minima of their components."""
    parent = list(range(count))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    deaths: dict[int, tuple[float, Pair | None]] = {}
    for height, high, low, pair in edges:
        elder, younger = sorted((root(high), root(low)))
        if elder != younger:
            parent[younger] = elder
            deaths[younger] = (height, pair)
            if len(deaths) == count - 1:
                break
    return deaths


def _direct(edges: Sequence[_Edge]) -> dict[int, tuple[float, Pair | None]]:
    """The lowest direct path to a lower minimum; edges come sorted."""
    deaths: dict[int, tuple[float, Pair | None]] = {}
    for height, high, _, pair in edges:
        deaths.setdefault(high, (height, pair))
    return deaths


def _check(a: Minimum, b: Minimum, height: float, births: Mapping[Minimum, float]) -> None:
    for end in (a, b):
        if end not in births:
            raise ValueError(f"heights names the minimum {end!r}, which has no loss.")
    if a == b:
        raise ValueError(f"heights joins the minimum {a!r} to itself; a pass has two ends.")
    if not height >= max(births[a], births[b]):
        raise ValueError(
            f"the pass ({a!r}, {b!r}) has height {height}, below one of its minima at "
            f"{births[a]} and {births[b]}: a path contains its ends."
        )
