"""The improved tangent of Henkelman & Jónsson (2000), eqs. (8)-(11); the default rule.

The tangent is the chord to the higher neighbour. At an extremum of the loss along the path, it is a sum of
both chords, weighted by the differences of the loss. The projection of the gradient on the tangent is
removed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from topo_core.paths.tangents.along_tangent import projection, with_climbing
from topo_core.paths.tangents.protocol import Method, Neighbourhood

if TYPE_CHECKING:
    from torch import Tensor


class Improved:
    """The gradient minus its projection on the upwind tangent."""

    method = Method()

    def shares(self, around: Neighbourhood) -> tuple[Tensor, Tensor]:
        """A_b and A_f, [k] each."""
        back, front = (w.to(around.along_back.dtype) for w in upwind_weights(around.losses))
        along, _ = projection(around, back, front)
        share = with_climbing(around, along, along)
        return share * back, share * front


def upwind_weights(losses: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [...] of the back and of the front chord in the improved tangent.

    ``losses`` [..., 3] are those of the left neighbour, the point, and the right neighbour.
    Where the three are equal both weights are 1, as in the string method.
    """
    left, here, right = losses.unbind(-1)
    rising, falling = (right > here) & (here > left), (right < here) & (here < left)
    to_left, to_right = (left - here).abs(), (right - here).abs()
    large, small = to_left.maximum(to_right), to_left.minimum(to_right)
    front = large.where(right > left, small)
    back = small.where(right > left, large)
    one, zero = here.new_ones(()), here.new_zeros(())
    front = one.where(rising, zero.where(falling, front))
    back = zero.where(rising, one.where(falling, back))
    flat = large == 0
    return one.where(flat, back), one.where(flat, front)


IMPROVED = Improved()
