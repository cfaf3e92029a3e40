"""What is still open about a barcode: the paths that were not run, and how far bars could fall by them.

A path that was not run is known to be no lower than the higher of its two minima. With all those paths
at that floor, every bar ends where it could end at the lowest. A pair that is joined through finished
paths at its floor + tolerance, or lower, decides nothing (`orchestrator.planning.pair_selection`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from orchestrator.planning.pair_rules import Pair
from orchestrator.planning.pair_selection import Knowledge, Order
from topo_core.homology.barcodes import barcode


@dataclass(frozen=True)
class Undecided:
    """Of the elder barcode, index 0.

    Attributes:
        pairs: how many paths that were not run (or failed) could still move a bar by more than the
            tolerance.
        tolerance: in units of the loss.
        death_low: for each minimum whose bar could still fall by more than the tolerance, how far.
    """

    pairs: int
    tolerance: float
    death_low: Mapping[int, float] = field(default_factory=dict)

    @property
    def proved(self) -> bool:
        """Whether no path that was left out can move a bar by more than the tolerance."""
        return self.pairs == 0


def undecided(
    losses: Mapping[int, float],
    heights: Mapping[Pair, float],
    count: int,
    tolerance: float,
) -> Undecided:
    """What the missing paths could still change.

    Args:
        losses: of the minima that are there, by number.
        heights: of the finished paths between them.
        count: of all minima.
        tolerance: changes up to this do not matter.
    """
    if len(heights) == len(losses) * (len(losses) - 1) // 2:
        return Undecided(0, tolerance)
    known = Knowledge(losses, count, rungs=1)
    for pair, height in heights.items():
        known.learn(Order(pair, 0), height)
    mask = known.undecided(tolerance)
    low = np.where(mask | mask.T, known.floors, known.best)
    there = sorted(losses)
    numbers = [losses[i] for i in there]
    now, lowest = (barcode(numbers, matrix[np.ix_(there, there)]) for matrix in (known.best, low))
    falls = {
        there[bar.minimum]: least.death
        for bar, least in zip(now.bars, lowest.bars, strict=True)
        if least.death < math.inf and bar.death - least.death > tolerance
    }
    return Undecided(int(mask.sum()), tolerance, falls)
