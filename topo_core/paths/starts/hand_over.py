"""When the training of a curve ends and the relaxation of a path begins: a decision by progress per gradient.

At first a gradient lowers a curve much more than a polygon, since it moves the whole curve. Later the curve
meets the limit of its few control points and only the polygon becomes lower. On every loss that was measured
(docs/performance.md) a path lowered its height above the higher end by about a quarter when its gradients
doubled. So the curve is trained as long as the next doubling of its gradients is expected to lower it by more
than that.

Heights are measured over the whole training set after the learning rate has decayed to 0, so that noise of
minibatches does not decide.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

_PATH = 0.75
"""Factor of the height of a path above its higher end when its gradients double."""


@dataclass(frozen=True)
class Progress:
    """The height of a curve after some training.

    Attributes:
        gradients: number of gradients evaluated so far.
        height: highest loss on the curve above the higher end; 0 or less if the curve is as low as that end.
    """

    gradients: int
    height: float


def curve_pays(progress: Sequence[Progress]) -> bool:
    """Whether a curve is expected to fall by more than a path would with as many gradients.

    The factor of the height over the next doubling of the gradients is extrapolated from the last two
    factors, which increase as the curve approaches its limit.

    Args:
        progress: oldest first, with increasing numbers of gradients.

    Returns:
        True while there are fewer than two entries. False if the curve no longer falls, or if its height is
        not finite, since then it has diverged.
    """
    if progress and not math.isfinite(progress[-1].height):
        return False
    if len(progress) < 2 or progress[-1].height <= 0:
        return True
    factors = [_factor(*pair) for pair in itertools.pairwise(progress[-3:])]
    expected = factors[-1]
    if len(factors) == 2 and factors[0] > 0:
        expected *= factors[1] / factors[0]
    return factors[-1] < 1 and expected <= _PATH


def _factor(before: Progress, now: Progress) -> float:
    """The factor of the height for each doubling of the gradients; infinite if ``before`` is no height above
    0."""
    if not before.height > 0:
        return math.inf
    doublings = math.log2(now.gradients / before.gradients)
    return float((max(now.height, 0.0) / before.height) ** (1 / doublings))
