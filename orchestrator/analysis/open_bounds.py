"""How far bars could still fall by paths that were not run.

The height of a path is at least the loss of the higher of its two minima. If all paths that were not
run had that height, every bar would end at its lowest possible death. A pair that finished paths
already connect at its floor + tolerance, or lower, decides nothing
(`orchestrator.pair_rules`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from orchestrator.pair_rules.knowledge import Knowledge
from orchestrator.pair_rules.orders import Order, Pair
from topo_core.homology.barcodes import barcode


@dataclass(frozen=True)
class Undecided:
    """What is open in the elder barcode of index 0.

    Attributes:
        pairs: how many paths that were not run (or failed) could still move a bar by more than the
            tolerance.
        tolerance: in units of the loss.
        death_low: for each minimum whose bar could still fall by more than the tolerance, the lowest
            possible death.
    """

    pairs: int
    tolerance: float
    death_low: Mapping[int, float] = field(default_factory=dict)

    @property
    def proved(self) -> bool:
        """Whether no path that was left out can move a bar by more than the tolerance."""
        return self.pairs == 0

    def to_json(self) -> dict[str, Any]:
        """The key `undecided` of `reduce --json`."""
        return {
            "pairs": self.pairs,
            "tolerance": self.tolerance,
            "proved": self.proved,
            "bars": [
                {"minimum": minimum, "death_low": low}
                for minimum, low in sorted(self.death_low.items())
            ],
        }


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
    present = sorted(losses)
    numbers = [losses[i] for i in present]
    now, lowest = (
        barcode(numbers, matrix[np.ix_(present, present)]) for matrix in (known.best, low)
    )
    falls = {
        present[bar.minimum]: least.death
        for bar, least in zip(now.bars, lowest.bars, strict=True)
        if least.death < math.inf and bar.death - least.death > tolerance
    }
    return Undecided(int(mask.sum()), tolerance, falls)
