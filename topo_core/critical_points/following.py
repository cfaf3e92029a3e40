"""What the two forms of eigenvector following share: limits, trust radius, damped step and result.

``eigenvector_following`` uses dense Hessians, ``krylov_following`` Hessian-vector products alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_GROW, _SHRINK = 2.0, 0.4  # factors of the trust radius
# Errors of the model up to which the radius may grow, and above which it shrinks:
_GOOD, _POOR = 0.5, 1.0
BAD = 2.0
"""Error of the model, relative to the predicted change, above which a step is rejected."""
_SHIFTS = 20  # Newton steps for the shift of a damped step, at most
_EXCESS = 1e-9  # share by which a damped step may be longer than the trust radius
SMALLEST = 1e-7
"""Trust radius at which a search has failed, relative to the first."""


@dataclass(frozen=True)
class FollowLimits:
    """When searches end.

    Attributes:
        longest: largest trust radius.
        tolerance: decrement, a difference of losses, at which a search has converged.
        steps: largest number of steps.
        ceiling: loss above which a search has failed.
        floor: loss below which a search has failed.
        reach: distance from its start above which a search has failed.
    """

    longest: float
    tolerance: float
    steps: int = 60
    ceiling: float = float("inf")
    floor: float = float("-inf")
    reach: float = float("inf")


@dataclass
class FollowingResult:
    """The ends of k searches, in the coordinates of the ``ScaledLoss``.

    Attributes:
        points: [k, d].
        losses: [k] float64.
        gradients: [k, d].
        decrements: [k], ½ gᵀ|H|⁻¹g: the loss that a Newton step could still change.
        values: eigenvalues [k, d] of the exact Hessian at ``points``, increasing; NaN where none was
            evaluated.
        vectors: [k, d, d], their eigenvectors in columns.
        converged: [k] bool, whether the gradient vanishes within the tolerance.
        steps: number of steps of the longest search.
    """

    points: Tensor
    losses: Tensor
    gradients: Tensor
    decrements: Tensor
    values: Tensor
    vectors: Tensor
    converged: Tensor
    steps: int

    def keep(self, alive: Tensor, ended: Tensor, x: Tensor, f: Tensor, g: Tensor) -> None:
        """Store the points of those of the searches ``alive`` [m] that have ``ended`` [m]."""
        rows = alive[ended]
        self.points[rows], self.losses[rows], self.gradients[rows] = x[ended], f[ended], g[ended]


def empty_result(points: Tensor, values: int) -> FollowingResult:
    """The result before searches from ``points`` [k, d] begin, with room for ``values`` eigenpairs each."""
    count, width = points.shape
    return FollowingResult(
        points=points.clone(),
        losses=points.new_full((count,), float("nan"), dtype=torch.float64),
        gradients=torch.full_like(points, float("nan")),
        decrements=points.new_full((count,), float("inf")),
        values=points.new_full((count, values), float("nan")),
        vectors=points.new_full((count, width, values), float("nan")),
        converged=torch.zeros(count, dtype=torch.bool, device=points.device),
        steps=0,
    )


def new_radius(
    error: Tensor, fine: Tensor, size: Tensor, radius: Tensor, longest: float
) -> tuple[Tensor, Tensor]:
    """The next trust radii [k], and whether each step is accepted [k].

    Args:
        error: [k], errors of the models, relative to the changes that they predicted.
        fine: [k], whether loss and gradient are finite after the step.
        size: [k], lengths of the steps.
        radius: [k], trust radii of the steps.
        longest: largest trust radius.
    """
    accept = (error <= BAD) & fine
    grown = torch.where(size >= 0.9 * radius, (_GROW * radius).clamp_max(longest), radius)
    radius = torch.where(error <= _GOOD, grown, radius)
    poor = ~(error <= _POOR) | ~fine
    return torch.where(poor, _SHRINK * torch.minimum(radius, size), radius), accept


def damped_weights(parts: Tensor, size: Tensor, radius: Tensor) -> Tensor:
    """Weights 1 / (size + μ) [k, d], with the smallest μ ≥ 0 that keeps each step within ``radius`` [k].

    The steps are ``parts`` times the weights; a step may exceed the radius by a share of ``_EXCESS``.
    """
    plain = 1 / size
    if bool(((parts * plain).norm(dim=1) <= radius).all()):
        return plain
    # Each component alone gives a lower bound of μ. From there Newton's method for 1 / length = 1 / radius
    # increases μ to the solution, since 1 / length is a concave function of μ (Moré & Sorensen 1983).
    shift = (parts.abs() / radius[:, None] - size).amax(1).clamp_min(0)
    for _ in range(_SHIFTS):
        weights = 1 / (size + shift[:, None])
        squares = (parts * weights).square()
        square = squares.sum(1)
        length = square.sqrt()
        if bool((length <= (1 + _EXCESS) * radius).all()):
            break
        move = (length / radius - 1) * square / (squares * weights).sum(1)
        shift = torch.where(length > radius, shift + move, shift)
    return weights
