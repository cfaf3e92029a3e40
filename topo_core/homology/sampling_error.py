"""An estimate of the sampling error of a barcode and of its TO-score.

A height is a loss that was evaluated on a polygon, so the maximum over the polygon is at least
that high. How much higher it may be is estimated from the slopes between the samples
(``Profile.bracket``); a spike narrower than the distance of two samples is not seen. This is an
estimate and not a bound. Where nothing was estimated, ``high`` is infinite, and so is the error.

The consequences for the barcode are exact. Deaths grow with heights, so the barcodes of the values
and of the upper ends enclose those of all heights between, and persistence is stable (Cohen-Steiner,
Edelsbrunner & Harer 2007): heights that are off by at most epsilon move the barcode by at most
epsilon in the bottleneck distance. That holds for the elder rule alone. Bars of Algorithm 1
(``direct``) may jump where two minima of nearly equal losses change places, so no error is given
for them.

How much a longer optimisation would lower heights is another question (``convergence_estimate``).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from topo_core.homology.barcodes import Barcode, barcode
from topo_core.homology.minimum_graphs import Minimum, Pair
from topo_core.homology.to_scores import to_score


@dataclass(frozen=True)
class HeightInterval:
    """Estimated range of the highest loss on a polygon or on a simplex.

    Attributes:
        value: the highest loss that was evaluated on it.
        high: estimated upper end; infinite where there is no estimate.
    """

    value: float
    high: float


@dataclass(frozen=True)
class SamplingError:
    """An elder barcode as value ± epsilon.

    Attributes:
        barcode: from the values of the heights.
        deaths_high: of each of its bars, in their order, the estimated upper end of the death; the
            death itself is the lower end.
        epsilon: the largest change of a finite bar, and so of the barcode in the bottleneck
            distance; infinite where a bar rests on a height without an estimate.
        to_score: of the barcode, off by at most epsilon.
        to_score_high: estimated upper end of the score; the score itself is the lower end.
    """

    barcode: Barcode
    deaths_high: tuple[float, ...]
    epsilon: float
    to_score: float
    to_score_high: float

    @property
    def estimated(self) -> bool:
        """Whether there is an estimate for every height that a bar rests on."""
        return math.isfinite(self.epsilon)


def estimate_sampling_error(
    losses: Sequence[float] | Mapping[Minimum, float],
    intervals: Mapping[Pair, HeightInterval],
) -> SamplingError:
    """The elder barcode of minima with the sampling error that follows from that of its passes.

    An uncertain pass on which no bar rests does not count, also where its error is large.

    Args:
        losses: of the minima.
        intervals: of the passes.

    Raises:
        ValueError: as for ``barcode``.
    """
    value = barcode(losses, {pair: height.value for pair, height in intervals.items()})
    high = barcode(losses, {pair: height.high for pair, height in intervals.items()})
    deaths_high = tuple(bar.death for bar in high.bars)
    epsilon = max(
        (
            upper - bar.death
            for bar, upper in zip(value.bars, deaths_high, strict=True)
            if math.isfinite(bar.death)
        ),
        default=0.0,
    )
    return SamplingError(value, deaths_high, epsilon, to_score(value), to_score(high))
