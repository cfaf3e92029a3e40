"""Bounds how far bars could still shorten through paths that were not run.

The height of a path is at least the loss of the higher of its two minima, its floor. If all paths that were
not run had that height, every bar would end at its lowest possible death. Pairs that finished paths already
connect at a height of at most floor + tolerance are left out of this (`orchestrator.pair_rules.lazy`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from orchestrator.pair_rules.pair_results import PairResults
from orchestrator.pair_rules.path_requests import Pair, PathRequest
from topo_core.homology.barcodes import barcode


@dataclass(frozen=True)
class OpenBounds:
    """What paths that were not run could still change in the elder barcode of index 0.

    Attributes:
        pairs: number of paths that were not run, or failed, and could still move a bar by more than the
            tolerance.
        tolerance: changes up to this do not matter, in units of the loss.
        death_low: for each minimum whose bar could still fall by more than the tolerance, the lowest
            possible death.
        missing: number of minima without a result. Paths to them are not counted in ``pairs``.
    """

    pairs: int
    tolerance: float
    death_low: Mapping[int, float] = field(default_factory=dict)
    missing: int = 0

    @property
    def proved(self) -> bool:
        """Whether no missing path can move a bar by more than the tolerance."""
        return self.pairs == 0 and self.missing == 0

    def to_json(self) -> dict[str, Any]:
        """The key `undecided` of `reduce --json`."""
        return {
            "pairs": self.pairs,
            "tolerance": self.tolerance,
            "missing_minima": self.missing,
            "proved": self.proved,
            "bars": [
                {"minimum": minimum, "death_low": low}
                for minimum, low in sorted(self.death_low.items())
            ],
        }


def open_bounds(
    losses: Mapping[int, float],
    heights: Mapping[Pair, float],
    count: int,
    tolerance: float,
) -> OpenBounds:
    """Compute what the missing paths could still change.

    Args:
        losses: of the finished minima, by number.
        heights: of the finished paths between them.
        count: number of all minima.
        tolerance: changes up to this do not matter, in units of the loss.
    """
    missing = count - len(losses)
    if len(heights) == len(losses) * (len(losses) - 1) // 2:
        return OpenBounds(0, tolerance, missing=missing)
    known = PairResults(losses, count, rungs=1)
    for pair, height in heights.items():
        known.record_height(PathRequest(pair, 0), height)
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
    return OpenBounds(int(mask.sum()), tolerance, falls, missing)
