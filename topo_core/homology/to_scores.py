"""The TO-score (section 1.3): how far a barcode is from that of a loss with one minimum."""

import math

from topo_core.homology.barcodes import AnyBars, Bars, intervals


def to_score(barcode: AnyBars, *, index: int | None = None) -> float:
    """Bottleneck distance (L-infinity ground metric) to the ideal barcode.

    The ideal barcode has one infinite bar at the same loss in index 0, and no bar in any other
    index. Finite bars can be matched with the diagonal only, so the distance is half the length of
    the longest. It is infinite where infinite bars are left over: minima that are not connected
    yet, or loops that nothing fills yet.

    Args:
        barcode: of any index, or rows (birth, death) as an array [m, 2] or a list.
        index: of plain rows, 0 where None; a barcode has its own.

    Raises:
        ValueError: as for ``bottleneck``.
    """
    if isinstance(barcode, Bars):
        index = getattr(barcode, "index", index)
    lengths = [bar.length for bar in intervals(barcode)]
    finite = [length for length in lengths if math.isfinite(length)]
    if len(lengths) - len(finite) != (0 if index else 1):
        return math.inf
    return max(finite, default=0.0) / 2
