"""Persistent homology of a filtered complex: the barcodes of index r (section 1.4).

The filtration brings the boundary operator to its canonical form (Barannikov 1994): each simplex
either gives birth to a class or kills one. An r-simplex gives birth to a bar of index r and an
(r+1)-simplex ends it, so the simplices of the highest dimension only end bars, and no bar of
their index is reported. GUDHI computes the pairs, over any prime field.

Bars of no length: in index 0 every vertex has a bar, also one of no length, exactly as in the
barcode of minima. In index 1 and higher most simplices are filled as soon as they enter, so bars
of no length are counted (``zero_length``) and not listed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from topo_core.homology.barcodes import Bars, Interval
from topo_core.homology.filtrations import Filtration, Simplex, filtration_of_simplices


@dataclass(frozen=True)
class HomologyBar(Interval):
    """A bar of index r.

    Attributes:
        born: the r-simplex at which it begins.
        killed: the (r+1)-simplex at which it ends; None for an infinite bar.
    """

    born: Simplex
    killed: Simplex | None


@dataclass(frozen=True)
class HomologyBarcode(Bars[HomologyBar]):
    """The bars of index ``index``, with coefficients in Z/``field``.

    Attributes:
        bars: in the order of (birth, death, born). In index 0 one for each vertex, in higher
            indices those that have a length.
        zero_length: how many bars have no length.
    """

    index: int
    field: int
    zero_length: int

    @property
    def complete(self) -> bool:
        """Whether nothing is left open: no infinite bar but that of the lowest minimum."""
        return len(self.infinite) == (1 if self.index == 0 else 0)


def persistence(
    filtration: Filtration | Mapping[Simplex, float], max_index: int, *, field: int = 2
) -> dict[int, HomologyBarcode]:
    """The barcodes of index 0 to ``max_index``.

    Args:
        filtration: with simplices up to dimension ``max_index + 1``, or fewer: a class that no
            simplex fills never dies. Or a mapping from simplices, as tuples of vertices 0 to
            n - 1, to the values at which they enter.
        max_index: the highest index.
        field: a prime p; homology is taken with coefficients in Z/p. The paper speaks of an
            alternating sum, which over Z/2 needs no signs; another field is a cross-check.

    Raises:
        ValueError: ``max_index`` is not an index, or ``field`` is not a prime; a mapping that
            ``filtration`` would refuse.
    """
    if not isinstance(max_index, int) or max_index < 0:
        raise ValueError(f"max_index is {max_index}; it must be a whole number, 0 or more.")
    if isinstance(filtration, Mapping):
        filtration = filtration_of_simplices(filtration)
    elif not isinstance(filtration, Filtration):
        raise ValueError(
            "filtration must be a Filtration, or a mapping from simplices to the values at which "
            "they enter, as in {(0,): 0.0, (1,): 1.0, (0, 1): 2.0}."
        )
    if field < 2 or any(field % divisor == 0 for divisor in range(2, math.isqrt(field) + 1)):
        raise ValueError(f"field is {field}; it must be a prime, for instance 2 or 3.")
    bars = _bars(filtration, max_index, field)
    zero_length = _zero_lengths(filtration, bars)
    return {
        index: HomologyBarcode(
            tuple(sorted(listed, key=lambda bar: (bar.birth, bar.death, bar.born))),
            index,
            field,
            zero_length[index],
        )
        for index, listed in bars.items()
    }


def _bars(filtration: Filtration, max_index: int, field: int) -> dict[int, list[HomologyBar]]:
    """The listed bars of each index, in no particular order."""
    tree = filtration.tree(max_index + 1)
    # The highest dimension gives births only where the complex has nothing that could end them.
    open_top = tree.dimension() <= max_index
    tree.compute_persistence(homology_coeff_field=field, persistence_dim_max=open_top)
    bars: dict[int, list[HomologyBar]] = {index: [] for index in range(max_index + 1)}
    for born, killed in tree.persistence_pairs():
        if len(born) - 1 <= max_index:
            bars[len(born) - 1].append(_bar(tree, born, killed))
    # GUDHI lists pairs with a length; the other vertices are those whose bars have none.
    listed = {bar.born[0] for bar in bars[0]}
    for vertex, value in enumerate(filtration.values[0].tolist()):
        if vertex not in listed:
            bars[0].append(HomologyBar(value, value, (vertex,), _killer(filtration, vertex, value)))
    return bars


def _bar(tree: Any, born: list[int], killed: list[int]) -> HomologyBar:
    return HomologyBar(
        tree.filtration(born),
        tree.filtration(killed) if killed else math.inf,
        tuple(sorted(born)),
        tuple(sorted(killed)) if killed else None,
    )


def _killer(filtration: Filtration, vertex: int, value: float) -> Simplex:
    """An edge at ``vertex`` that enters with it."""
    edges = filtration.simplices[1]
    chosen = (edges == vertex).any(axis=1) & (filtration.values[1] == value)
    edge: Simplex = tuple(edges[chosen.argmax()].tolist())
    return edge


def _zero_lengths(filtration: Filtration, bars: Mapping[int, list[HomologyBar]]) -> dict[int, int]:
    """For each index the number of bars of no length.

    Every simplex gives birth to a bar or ends one, so the numbers of simplices and of infinite
    bars settle how many bars there are.
    """
    counts: dict[int, int] = {}
    ended = 0  # by the simplices of this dimension
    for index, listed in sorted(bars.items()):
        simplices = len(filtration.simplices[index]) if index <= filtration.dimension else 0
        born = simplices - ended
        counts[index] = (
            sum(1 for bar in listed if bar.length == 0) if index == 0 else born - len(listed)
        )
        ended = born - sum(1 for bar in listed if math.isinf(bar.death))
    return counts
