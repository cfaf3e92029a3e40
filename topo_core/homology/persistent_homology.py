"""Persistent homology of a filtered complex: the barcodes of index r (section 1.4).

The filtration brings the boundary operator to its canonical form (Barannikov 1994): each simplex
either gives birth to a class or kills one. An r-simplex gives birth to a bar of index r and an
(r+1)-simplex ends it, so the simplices of the highest dimension serve as deaths alone and no bar
of their index is reported.

Over Z/2 the reduction is our own (``cohomology``), over any other field GUDHI's.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from topo_core.homology.barcodes import Bars, Interval
from topo_core.homology.cohomology import pairings
from topo_core.homology.filtrations import Filtration, Simplex, of_simplices


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
    """The bars of index ``index`` that have a length, with coefficients in Z/``field``."""

    index: int
    field: int

    @property
    def complete(self) -> bool:
        """Whether nothing is left open: no infinite bar but that of the lowest minimum."""
        return len(self.infinite) == (1 if self.index == 0 else 0)


def persistence(
    filtration: Filtration | Mapping[Simplex, float], max_index: int, *, field: int = 2
) -> dict[int, HomologyBarcode]:
    """The barcodes of index 0 to ``max_index``.

    Args:
        filtration: with simplices up to dimension ``max_index + 1``, or fewer: what no simplex
            fills never dies. Or a mapping from simplices, as tuples of vertices 0 to n - 1, to
            where they enter.
        max_index: the highest index.
        field: a prime p; homology is taken with coefficients in Z/p. The paper speaks of an
            alternated sum, which over Z/2 needs no signs; another field is a cross-check, by
            another engine.

    Raises:
        ValueError: a ``max_index`` that is no index, or a ``field`` that is not a prime; a mapping
            as for ``filtration``.
    """
    if not isinstance(max_index, int) or max_index < 0:
        raise ValueError(f"max_index is {max_index}; it must be a whole number, 0 or more.")
    if isinstance(filtration, Mapping):
        filtration = of_simplices(filtration)
    elif not isinstance(filtration, Filtration):
        raise ValueError(
            "give a Filtration, or a mapping from simplices to where they enter, as in "
            "{(0,): 0.0, (1,): 1.0, (0, 1): 2.0}."
        )
    if field < 2 or any(field % divisor == 0 for divisor in range(2, math.isqrt(field) + 1)):
        raise ValueError(f"field is {field}; it must be a prime, for instance 2 or 3.")
    found = (
        _of_bits(filtration, max_index) if field == 2 else _of_gudhi(filtration, max_index, field)
    )
    return {
        index: HomologyBarcode(
            tuple(sorted(bars, key=lambda bar: (bar.birth, bar.death, bar.born))), index, field
        )
        for index, bars in found.items()
    }


def _of_bits(filtration: Filtration, max_index: int) -> dict[int, list[HomologyBar]]:
    """Over Z/2, by our own reduction."""
    found: dict[int, list[HomologyBar]] = {index: [] for index in range(max_index + 1)}
    for index, pairing in enumerate(pairings(filtration, max_index)):
        births, names = filtration.values[index], filtration.simplices[index]
        for born, killed in zip(pairing.born.tolist(), pairing.killed.tolist(), strict=True):
            birth, death, by = float(births[born]), math.inf, None
            if killed >= 0:
                death = float(filtration.values[index + 1][killed])
                if death <= birth:
                    continue
                by = tuple(filtration.simplices[index + 1][killed].tolist())
            found[index].append(HomologyBar(birth, death, tuple(names[born].tolist()), by))
    return found


def _of_gudhi(filtration: Filtration, max_index: int, field: int) -> dict[int, list[HomologyBar]]:
    """Over any field, by GUDHI."""
    tree = filtration.tree(max_index + 1)
    # Births of the highest dimension count only where nothing is there to end them.
    open_top = tree.dimension() <= max_index
    tree.compute_persistence(homology_coeff_field=field, persistence_dim_max=open_top)
    found: dict[int, list[HomologyBar]] = {index: [] for index in range(max_index + 1)}
    for born, killed in tree.persistence_pairs():
        if len(born) - 1 <= max_index:
            death = tree.filtration(killed) if killed else math.inf
            bar = HomologyBar(
                tree.filtration(born),
                death,
                tuple(sorted(born)),
                tuple(sorted(killed)) if killed else None,
            )
            found[len(born) - 1].append(bar)
    return found
