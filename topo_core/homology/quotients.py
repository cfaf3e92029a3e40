"""The barcode on the quotient by exact symmetries, where copies of a minimum are one point.

Permutations of hidden units and sign flips of odd activations give copies of a minimum with equal
loss. On the parameter space each copy has a bar of its own, and all copies of the
lowest minimum but one have finite bars against each other. On the quotient a class of copies has
one bar. A path between any two members connects their classes, because the symmetry carries it to
paths between the other copies at the same height; paths inside a class close there and connect
nothing.
"""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace

from topo_core.homology.barcodes import Barcode, BarcodeMethod, barcode
from topo_core.homology.minimum_graphs import Minimum, Pair


@dataclass(frozen=True)
class QuotientBarcode:
    """The barcode of classes.

    Attributes:
        barcode: one bar for each class. ``Bar.minimum`` is the lowest member (of equal ones the
            smallest id), ``Bar.saddle`` the pair of minima whose path is the pass.
        members: of each class, by the same member: all of them, lowest first.
    """

    barcode: Barcode
    members: Mapping[Minimum, tuple[Minimum, ...]]


def quotient_barcode(
    losses: Mapping[Minimum, float],
    heights: Mapping[Pair, float],
    classes: Mapping[Minimum, Hashable],
    method: BarcodeMethod = "elder",
) -> QuotientBarcode:
    """The barcode of classes of minima with known passes.

    Args:
        losses: of the minima, by id.
        heights: of the passes, as for ``barcode``.
        classes: of each minimum its class; members of a class are copies of each other.
        method: as for ``barcode``.

    Raises:
        ValueError: as for ``barcode``; a minimum has no class.
    """
    if missing := [minimum for minimum in losses if minimum not in classes]:
        raise ValueError(f"the minimum {missing[0]!r} has no class; give one for every minimum.")
    members: dict[Hashable, list[Minimum]] = {}
    for minimum in sorted(losses, key=lambda minimum: (losses[minimum], minimum)):
        members.setdefault(classes[minimum], []).append(minimum)
    lowest = {minimum: members[classes[minimum]][0] for minimum in losses}
    lowest_pair: dict[Pair, Pair] = {}
    for (i, j), height in sorted(heights.items(), key=lambda item: (item[1], item[0])):
        if i not in lowest or j not in lowest:
            missing_end = i if i not in lowest else j
            raise ValueError(
                f"heights names the minimum {missing_end!r}, which has no loss; give its loss, or "
                "leave out its passes."
            )
        ends = lowest[i], lowest[j]
        if ends[0] != ends[1] and math.isfinite(height):
            lowest_pair.setdefault((min(ends), max(ends)), (i, j))
    of_classes = barcode(
        {first: losses[first] for first in set(lowest.values())},
        {ends: heights[pair] for ends, pair in lowest_pair.items()},
        method,
    )
    bars = tuple(
        replace(bar, saddle=lowest_pair[bar.saddle] if bar.saddle else None)
        for bar in of_classes.bars
    )
    return QuotientBarcode(
        Barcode(bars, method), {group[0]: tuple(group) for group in members.values()}
    )
