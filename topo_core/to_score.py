"""The TO-score (section 1.3): how far a barcode is from that of a loss with one minimum."""

import math
from typing import Protocol

from topo_core.barcode import Interval


class Indexed(Protocol):
    """A barcode of any index."""

    @property
    def index(self) -> int:
        """Its index."""

    @property
    def finite(self) -> tuple[Interval, ...]:
        """The bars that die."""

    @property
    def infinite(self) -> tuple[Interval, ...]:
        """Those that never die."""


def to_score(barcode: Indexed) -> float:
    """Bottleneck distance (L-infinity ground metric) to the ideal barcode.

    The ideal barcode has one infinite bar at the same loss in index 0, and no bar in any other
    index. Nothing but the diagonal is left for finite bars to be matched with, so the distance is
    half of the longest. It is infinite where infinite bars are left over: minima that are not
    connected yet, or loops that nothing fills yet.
    """
    ideal = 1 if barcode.index == 0 else 0
    if len(barcode.infinite) != ideal:
        return math.inf
    return max((bar.length / 2 for bar in barcode.finite), default=0.0)
