"""Descent along kinks: BFGS with a weak Wolfe line search, and the test of stationarity in Clarke's sense.

At a kink the gradient does not vanish, and a line search that wants the loss to be smooth ends early. BFGS
that asks only for a fall and for a change of the slope goes on: its inverse Hessian becomes small across the
kinks, so that steps lead along them (Lewis & Overton, Nonsmooth optimization via quasi-Newton methods, 2013).
The smallest vector in the convex hull of the gradients at recent points nearby tends to zero at a minimum
(Burke, Lewis & Overton 2005).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.critical_points.kinks import smallest_in_hull

_FALL, _SLOPE = (
    1e-4,
    0.9,
)  # parts of the slope: the least fall, and where the slope must have got to
_TRIALS = 50  # of one line search
_FIRST = 1e-4  # length of the first step, in sizes of the parameters
_KEPT = 240  # gradients that are remembered
_RADIUS = 1e-4  # of the ball from which gradients enter the hull, in sizes of the parameters


@dataclass(frozen=True)
class KinkDescent:
    """The memory of the descent; empty tensors before it began.

    Attributes:
        inverse: [d, d], the approximation of the inverse Hessian.
        points: [m, d], where gradients were taken, oldest first.
        gradients: [m, d], there.
    """

    inverse: Tensor
    points: Tensor
    gradients: Tensor

    @classmethod
    def none(cls, point: Tensor) -> "KinkDescent":
        """Before the descent at ``point`` [d] began."""
        empty = point.new_zeros(0, len(point))
        return cls(empty, empty, empty)

    @classmethod
    def begin(cls, point: Tensor, gradient: Tensor, length: float) -> "KinkDescent":
        """At the first point [d]; ``length`` is the size of the parameters."""
        scale = _FIRST * length / max(float(gradient.norm()), 1e-300)
        eye = torch.eye(len(point), dtype=point.dtype, device=point.device)
        return cls(scale * eye, point[None], gradient[None])

    @property
    def begun(self) -> bool:
        """Whether the descent has begun."""
        return len(self.points) > 0

    def smallest(self, point: Tensor, length: float) -> float:
        """Norm of the smallest vector in the hull of the gradients near ``point`` [d]; infinite if there are
        none.
        """
        near = (self.points - point).norm(dim=1) <= _RADIUS * length
        return smallest_in_hull(self.gradients[near]) if bool(near.any()) else float("inf")


def kink_step(
    at: Callable[[Tensor], tuple[float, Tensor]],
    point: Tensor,
    loss: float,
    gradient: Tensor,
    descent: KinkDescent,
) -> tuple[Tensor, float, Tensor, KinkDescent] | None:
    """One step: the new point [d], its loss and gradient [d], and the memory; None where no step lowers the
    loss.

    Args:
        at: loss and gradient [d] at a point [d].
        point: [d].
        loss: there.
        gradient: [d], there.
        descent: the memory.
    """
    direction = -descent.inverse @ gradient
    slope = float(direction @ gradient)
    if not slope < 0:
        return None
    low, high, length = 0.0, float("inf"), 1.0
    points, gradients = [], []
    for _ in range(_TRIALS):
        trial = point + length * direction
        trial_loss, trial_gradient = at(trial)
        if bool(trial_gradient.isfinite().all()):
            points.append(trial)
            gradients.append(trial_gradient)
        if not trial_loss <= loss + _FALL * length * slope:
            high = length
        elif float(trial_gradient @ direction) < _SLOPE * slope:
            low = length
        else:
            break
        length = 0.5 * (low + high) if high < float("inf") else 2 * low
    else:
        return None
    inverse = _updated(descent.inverse, trial - point, trial_gradient - gradient)
    memory = KinkDescent(
        inverse,
        torch.cat([descent.points, torch.stack(points)])[-_KEPT:],
        torch.cat([descent.gradients, torch.stack(gradients)])[-_KEPT:],
    )
    return trial, trial_loss, trial_gradient, memory


def _updated(inverse: Tensor, move: Tensor, change: Tensor) -> Tensor:
    """The BFGS update of the inverse Hessian [d, d]; unchanged where the slope did not grow."""
    curvature = float(move @ change)
    if not curvature > 0:
        return inverse
    image = inverse @ change
    outer = torch.outer(move, image)
    weight = (curvature + float(change @ image)) / curvature**2
    return inverse + weight * torch.outer(move, move) - (outer + outer.T) / curvature
