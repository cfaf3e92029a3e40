"""Transition networks: minima, saddles of index 1, and the two minima that each saddle connects.

In the energy-landscape literature this is the kinetic transition network (Wales, Energy Landscapes,
2003; pele, topsearch). Its barcode by the elder rule is that of the critical points that are known:
each finite bar ends at a stationary point. A barcode of paths ends at heights that paths attain,
which are never below the lowest saddle between two minima, so the two barcodes agree where paths
have converged and all saddles between the minima are known.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from topo_core.homology.barcodes import Barcode, barcode
from topo_core.homology.minimum_graphs import Minimum, Pair


@dataclass(frozen=True)
class Transition:
    """A saddle of index 1, and the two minima that it connects.

    Attributes:
        saddle: its id.
        loss: at the saddle.
        ends: two minima that a path connects whose highest point is the saddle: those at which its two
            descents end, or the ends of a longer path over it. They may be equal; such a saddle
            connects nothing.
    """

    saddle: Hashable
    loss: float
    ends: Pair


@dataclass(frozen=True)
class TransitionNetwork:
    """Minima and transitions between them.

    Attributes:
        losses: of the minima, by id; ids can be ordered.
        transitions: in any order.
    """

    losses: Mapping[Minimum, float]
    transitions: Sequence[Transition]

    @cached_property
    def lowest(self) -> Mapping[Pair, Transition]:
        """For each pair of different minima (the smaller id first), the lowest saddle between them.

        A saddle whose loss is not a finite number connects nothing.
        """
        lowest: dict[Pair, Transition] = {}
        for transition in self.transitions:
            first, second = transition.ends
            if first == second or not math.isfinite(transition.loss):
                continue
            pair = (min(first, second), max(first, second))
            if pair not in lowest or transition.loss < lowest[pair].loss:
                lowest[pair] = transition
        return lowest

    @cached_property
    def barcode(self) -> Barcode:
        """The elder barcode; ``Bar.saddle`` is a key of ``lowest``.

        Raises:
            ValueError: as for ``barcode``, for instance a saddle below one of its ends.
        """
        return barcode(self.losses, {pair: t.loss for pair, t in self.lowest.items()})
