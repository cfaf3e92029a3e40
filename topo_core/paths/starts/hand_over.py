"""When the training of a curve ends and the relaxation of a path begins: a decision by progress per gradient.

A gradient moves a whole curve, but only one point of a path. A path stays in the valley of the curve that it
starts on, so a curve that still falls is worth more than its present height: on networks of 300 to 10,000
parameters a curve with 3,200 instead of 1,600 gradients gave lower paths after 17,000 gradients in all
(docs/performance.md). In the end a curve meets the limit of its few control points, and only a path becomes
lower. So the curve has ``_LEAST`` gradients, unless it does not fall at all, and is trained on as long as
doubling its gradients lowers it by a tenth.

Heights are measured over the whole training set after the learning rate has decayed to 0, so that noise of
minibatches does not decide.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_LEAST = 1600  # gradients
_SLOW = 0.9  # factor of the height for each doubling of the gradients, above which the path begins


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
    """Whether a curve is to be trained on, rather than handed over to a path.

    Args:
        progress: oldest first, with increasing numbers of gradients; the last two entries decide.

    Returns:
        True while there are fewer than two entries. False if the last height is not finite, since then the
        curve has diverged.
    """
    if progress and not math.isfinite(progress[-1].height):
        return False
    if len(progress) < 2 or progress[-1].height <= 0:
        return True
    before, now = progress[-2:]
    if not now.height < before.height:
        return False
    doublings = math.log2(now.gradients / before.gradients)
    factor = (now.height / before.height) ** (1 / doublings)
    return now.gradients < _LEAST or factor <= _SLOW
