"""An estimate of how much bars would shorten if paths were optimised for longer.

Each path comes with an estimate of how much its height would still fall. The pass that ends a bar may be
replaced by another path (a challenger) that falls below it. So the barcode is computed again from the reduced
heights of all paths, not only of those that end bars.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from topo_core.homology.barcodes import barcode
from topo_core.homology.minimum_graphs import Minimum, Pair


@dataclass(frozen=True)
class ConvergenceEstimate:
    """Of the elder barcode.

    Attributes:
        largest_fall: the most that the death of a bar would fall by.
        deaths: estimated death of each minimum's bar after a longer optimisation.
        decisive: paths that end a bar, now or with the reduced heights.
        unconverged: those of them that have not converged.
    """

    largest_fall: float
    deaths: Mapping[Minimum, float]
    decisive: frozenset[Pair]
    unconverged: frozenset[Pair]


def estimate_convergence(
    losses: Sequence[float] | Mapping[Minimum, float],
    heights: Mapping[Pair, float],
    falls: Mapping[Pair, float],
    converged: Collection[Pair],
) -> ConvergenceEstimate:
    """The estimated change of the elder barcode by a longer optimisation.

    Args:
        losses: of the minima.
        heights: of the passes.
        falls: of each pass, by how much its height would still fall (0 or more, may be infinite). No
            height falls below the ends of its path.
        converged: the passes whose paths have converged.

    Raises:
        ValueError: as for ``barcode``.
    """
    births = dict(losses) if isinstance(losses, Mapping) else dict(enumerate(losses))
    reduced = {
        (i, j): max(births[i], births[j], height - max(0.0, falls[i, j]))
        for (i, j), height in heights.items()
        if math.isfinite(height)
    }
    now, later = barcode(births, heights), barcode(births, reduced)
    decisive = frozenset(bar.saddle for bars in (now, later) for bar in bars.bars if bar.saddle)
    shortened = [
        before.death - after.death
        for before, after in zip(now.bars, later.bars, strict=True)
        if math.isfinite(after.death)
    ]
    return ConvergenceEstimate(
        max(shortened, default=0.0),
        {bar.minimum: bar.death for bar in later.bars},
        decisive,
        frozenset(pair for pair in decisive if pair not in converged),
    )
