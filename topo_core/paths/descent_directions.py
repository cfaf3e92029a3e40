"""The direction along which a path descends: the gradient minus the part that a tangent rule removes.

At a moving point x with neighbours l and r, chords b = x - l and f = r - x, and gradient g, every rule in
``tangents`` descends along

    n = g - A_b b - A_f f

and the rules differ only in the two numbers A_b and A_f. These follow from inner products [k], so a step
reads each [k, d] array a few times and needs no loop over points.
"""

from torch import Tensor

from topo_core.paths.chords import Chords
from topo_core.paths.tangents.protocol import Neighbourhood, TangentRule


def descent_(
    rule: TangentRule,
    chords: Chords,
    gradients: Tensor,
    losses: Tensor,
    *,
    spring: float = 1.0,
    climbing: Tensor | None = None,
) -> Tensor:
    """Turn ``gradients`` into the descent direction n [k, d], in place.

    For p paths every tensor has one more axis, the first.

    Args:
        rule: how the tangential part is chosen.
        chords: of the k moving points.
        gradients: [k, d], weight decay included; overwritten by n.
        losses: [k, 3], at the left neighbour, the point and the right neighbour.
        spring: stiffness of a rule with springs, in units of loss over length squared.
        climbing: [k] of bool, the points that climb.

    Returns:
        Norms [k] of the parts that were removed from the gradients.
    """
    along_back, along_front = chords.along(gradients)
    around = Neighbourhood(chords, along_back, along_front, losses, climbing, spring)
    from_back, from_front = rule.shares(around)
    gradients.addcmul_(from_back[..., None], chords.back, value=-1)
    gradients.addcmul_(from_front[..., None], chords.front, value=-1)
    return chords.square(from_back, from_front).clamp_min(0).sqrt()
