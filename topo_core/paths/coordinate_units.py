"""Units of single coordinates: a path between badly scaled parameters is optimised in coordinates θ / unit.

The unit of a coordinate is √(|θ| / |∂L/∂θ|): its larger absolute value at the two ends, over the root mean
square of its gradient at a few points of the straight line. This is the root of an inverse curvature, so the
units are a diagonal preconditioner. If a coordinate is multiplied by a factor, its gradient is divided by it,
and its unit follows. So steps in these units do not depend on the scales of single coordinates.

The units of ordinary networks differ little: the standard deviation of their decimal logarithm was 0.18 to
0.32 on twelve landscapes with 100 to 26,506 parameters, and the median was at most 23 times the smallest.
There the given coordinates are as good, and they are kept (comparison in docs/performance.md).
"""

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective, Step
from topo_core.paths.polyline import resample
from topo_core.paths.settings import SMALL

PROBES = 4
"""Number of points of the straight line at which the gradient is evaluated."""
_SPREAD = 0.5  # standard deviation of the decimal logarithm above which the units are used
_STIFF = 200.0  # median over smallest unit above which they are used: one stiff coordinate suffices
# Smallest root of size times gradient, as a fraction of its median, that is distinguished from 0. It limits
# how far a coordinate with nearly no gradient moves in multiples of its own size.
_FAINT = 0.01
TYPICAL = 0.1
"""Root mean square difference of the ends in their units. Parameters of trained networks differ by about as
much, and absolute learning rates were tuned on them."""


def coordinate_units(
    objective: Objective, start: Tensor, end: Tensor, seed: int
) -> tuple[Tensor | None, int]:
    """The units of the coordinates between two ends [d], and the number of gradients evaluated.

    Args:
        objective: the loss; its gradients may be on minibatches.
        start, end: the two ends.
        seed: determines the minibatches.

    Returns:
        Units [d], all positive; None if the given coordinates are not badly scaled, if the loss does not
        distinguish coordinates, or in up to 48 dimensions, where searches use whole Hessians instead.
    """
    if len(start) <= SMALL:
        return None, 0
    squares = torch.zeros_like(start)
    for k in range(PROBES):
        point = torch.lerp(start, end, (k + 0.5) / PROBES)
        step = Step(seed, 0, k % objective.batches)
        squares += objective.gradients(point[None], step)[1][0].square()
    units = units_of(torch.maximum(start.abs(), end.abs()), (squares / PROBES).sqrt())
    if units is None or not _badly_scaled(units):
        return None, PROBES
    difference = ((end - start) / units).square().mean().sqrt()
    return (units * (difference / TYPICAL) if difference > 0 else units), PROBES


def units_of(sizes: Tensor, slopes: Tensor) -> Tensor | None:
    """The units [d] of coordinates, up to a common factor.

    Args:
        sizes: [d], absolute values of the coordinates.
        slopes: [d], absolute values of the gradient.

    Returns:
        None if no coordinate has both, or if a slope is not finite.
    """
    known = (sizes > 0) & (slopes > 0)
    if not bool(slopes.isfinite().all()) or not bool(known.any()):
        return None
    importance = (sizes * slopes).sqrt()  # does not depend on the scale of a coordinate
    typical = importance[known].median()
    units = sizes / importance.clamp_min(_FAINT * typical)
    # A coordinate that is 0 at both ends has only its gradient, and one without both has the median.
    units = torch.where(sizes > 0, units, typical / slopes)
    return torch.where((sizes > 0) | (slopes > 0), units, units[known].median())


def resample_in(units: Tensor | None, points: Tensor, count: int) -> Tensor:
    """``resample`` at equal arc length in the ``units`` [d] of the coordinates; None for the given ones."""
    if units is None:
        return resample(points, count)
    path = resample(points / units, count) * units
    path[0], path[-1] = points[0], points[-1]
    return path


def _badly_scaled(units: Tensor) -> bool:
    """Whether the coordinates differ so much that one learning rate does not suit all of them."""
    logarithms = units.to(torch.float64).log10()
    stiff = float(units.median() / units.min())
    return float(logarithms.std()) > _SPREAD or stiff > _STIFF
