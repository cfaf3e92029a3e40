"""How far the highest point of a path is from a stationary point.

If a path cannot be lowered, its highest point is stationary (mountain pass theorem). So the gradient at the
highest point, without its part along the path, is evidence about the returned path, independent of its
history. It also detects a polygon that is too coarse: if a segment cuts across a curved valley, its
highest point lies on the slope of the valley and has a large gradient.

At a kink of the loss no single gradient is small. So the force is the smallest convex combination of
gradients in a small neighbourhood (Goldstein 1977; bundle methods): gradients are added at points in the
direction in which the combination predicts a fall, until the loss falls as predicted or the combination is
small.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.objectives.curvature import full_gradients
from topo_core.objectives.protocol import CurvatureObjective, Objective
from topo_core.paths.polyline import arc_positions, at_positions, segment_lengths
from topo_core.paths.profiles import Profile

_NEAR = 0.01  # radius of the neighbourhood, in lengths of the segment that holds the peak
_BUNDLE = 4  # largest number of gradients added in predicted directions of descent


@dataclass(frozen=True)
class PeakForce:
    """The part of the gradient at the highest point that could lower the path.

    Attributes:
        norm: norm of the force, weight decay included, in units of loss over length.
        fall: estimated fall of the loss along the force, in units of loss. If the force decreased linearly to
            zero over the distance of the ends, the fall would be half of norm times distance; if a fall
            measured within the neighbourhood is larger, it is used.
        gradient_evaluations: number of rows whose gradient over the whole training set was evaluated.
    """

    norm: float
    fall: float
    gradient_evaluations: int


def peak_force(
    objective: Objective, points: Tensor, profile: Profile, *, l2: float = 0.0
) -> PeakForce | None:
    """The force at the highest point of the polygon ``points`` [n, d], whose losses are ``profile``.

    None if gradients over the whole training set are not available. ``l2`` is the weight decay.
    """
    peak, along, length = highest_point(points, profile)
    radius = _NEAR * length
    chord = float(torch.linalg.vector_norm(points[-1] - points[0]))
    return force_at(objective, peak, along[None], radius=radius, distance=chord, l2=l2)


def force_at(
    objective: Objective,
    peak: Tensor,
    tangents: Tensor,
    *,
    radius: float,
    distance: float,
    l2: float = 0.0,
) -> PeakForce | None:
    """The force at the highest point of a path or of a simplex.

    None if gradients over the whole training set are not available.

    Args:
        objective: the loss.
        peak: [d], the highest point.
        tangents: [r, d], orthonormal or zero rows; the force has no part in their span.
        radius: radius of the neighbourhood in which gradients are combined.
        distance: distance over which the force is assumed to decrease to zero.
        l2: weight decay.
    """
    if objective.batches != 1 and not isinstance(objective, CurvatureObjective):
        return None
    rows = torch.cat([peak[None], peak - radius * tangents, peak + radius * tangents])
    losses, slopes = _slopes(objective, rows, tangents, l2)
    force = slopes[0]
    for slope in slopes[1:]:
        force = _smallest(force, slope)
    fall, spent = 0.0, len(rows)
    for _ in range(_BUNDLE):
        norm = float(torch.linalg.vector_norm(force))
        if not norm > 0:
            break
        moved = peak - radius / norm * force
        loss, slope = _slopes(objective, moved[None], tangents, l2)
        spent += 1
        fall = max(fall, float(losses[0] - loss[0]))
        if float(slope[0] @ force) >= 0.5 * norm**2:  # the loss falls as predicted
            break
        force = _smallest(force, slope[0])
    norm = float(torch.linalg.vector_norm(force))
    if not math.isfinite(norm):
        return PeakForce(math.inf, math.inf, spent)
    return PeakForce(norm, max(fall, 0.5 * norm * distance), spent)


def highest_point(points: Tensor, profile: Profile) -> tuple[Tensor, Tensor, float]:
    """The highest point [d], the unit vector [d] along the path there, and the length of its segment."""
    positions = arc_positions(points)
    lengths = segment_lengths(points)
    here = profile.positions[profile.argmax]
    segment = int(torch.searchsorted(positions, here).clamp(1, len(points) - 1)) - 1
    share = _NEAR * float(lengths[segment]) / max(float(lengths.sum()), 1e-300)
    wanted = torch.stack([here - share, here, here + share]).clamp(0, 1)
    before, peak, after = at_positions(points, positions, wanted)
    along = after - before
    length = torch.linalg.vector_norm(along)
    return peak, along / torch.where(length > 0, length, 1.0), float(lengths[segment])


def _slopes(
    objective: Objective, rows: Tensor, tangents: Tensor, l2: float
) -> tuple[Tensor, Tensor]:
    """Losses [k], and gradients [k, d] without their parts along ``tangents`` [r, d], at ``rows`` [k, d]."""
    losses, gradients = full_gradients(objective, rows)
    slopes = torch.add(gradients, rows, alpha=l2)
    return losses, slopes - (slopes @ tangents.T) @ tangents


def _smallest(first: Tensor, second: Tensor) -> Tensor:
    """The shortest vector [d] on the segment between two vectors [d]."""
    change = second - first
    square = change @ change
    share = torch.where(square > 0, -(first @ change) / square, 0.0).clamp(0, 1)
    return first + share * change
