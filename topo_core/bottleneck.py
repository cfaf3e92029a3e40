"""The bottleneck distance between two barcodes (eq. 4)."""

import numpy as np
from numpy.typing import NDArray

from topo_core.barcode import AnyBars, intervals


def diagram(bars: AnyBars) -> NDArray[np.float64]:
    """The bars as points [m, 2] of (birth, death)."""
    return np.array([(bar.birth, bar.death) for bar in intervals(bars)], dtype=np.float64).reshape(
        -1, 2
    )


def bottleneck(a: AnyBars, b: AnyBars) -> float:
    """The exact bottleneck distance, in units of the loss, with the L-infinity ground metric.

    Bars may be matched with each other or with the diagonal, where they have no length. Infinite
    bars are matched among themselves in the order of their births, and two barcodes with different
    numbers of them are infinitely far apart. Computed by GUDHI's exact algorithm: its default
    may be wrong in the last bits, and the one of Hera has a relative error of 1 %.

    Args:
        a, b: barcodes of any index, or rows (birth, death) as an array [m, 2] or a list.

    Raises:
        ValueError: rows that are no pairs of numbers, or with a death below the birth.
    """
    import gudhi

    return float(gudhi.bottleneck_distance(diagram(a), diagram(b), e=0))
