"""The TO-score (section 1.3): how far a barcode is from that of a loss with one minimum."""

import math

from topo_core.barcode import Barcode


def to_score(barcode: Barcode) -> float:
    """Bottleneck distance (L-infinity) to the ideal barcode, which has one infinite bar at the same loss.

    Nothing but the diagonal is left for the finite bars to be matched with, so it is half of the
    longest. More than one infinite bar means that minima are not connected yet: infinite.
    """
    if len(barcode.infinite) > 1:
        return math.inf
    return max((bar.length / 2 for bar in barcode.finite), default=0.0)
