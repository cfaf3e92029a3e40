"""What speaks against a path that seems to have converged, where gradients are exact.

Two things keep the force at the highest point small, and the path where it is, without a pass there:

- *A ridge.* A path that a symmetry holds on a ridge feels no force across it: the straight line over the hill
  of (r² − 1)² has its highest point where the gradient is zero. A pass has one negative eigenvalue of the
  Hessian, along the path. Where another direction has one, and the loss is seen to fall there, a lower path
  runs beside this one.
- *Gradients that are not those of the loss*: of a function that is constant in pieces, or a part of whose
  graph is cut (``detach``). Their integral over a part of the path is not the change of the loss.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.critical_points.lanczos import lowest_eigenpairs
from topo_core.objectives.curvature import full_gradients, hessian_vector_products
from topo_core.objectives.protocol import Objective
from topo_core.paths.polyline import arc_positions, at_positions, segment_lengths
from topo_core.paths.profiles import Profile
from topo_core.paths.stationarity import highest_point
from topo_core.random_streams import generator

_PRODUCTS = (
    60  # what the two lowest eigenvalues may cost; a sign that is not settled then does not count
)
_NEAREST = 0.1  # first distance at which a fall is looked for, in segments of the path
_ACROSS = 0.1  # cosine with the path below which a direction lies across it
_WRONG = 0.5  # of the change of the loss: an integral of gradients with a larger error is not its integral


@dataclass(frozen=True)
class CounterEvidence:
    """Why a path has not converged that seems to have.

    Attributes:
        fall: what the height may still fall by, in units of loss.
        reason: a part of a sentence.
    """

    fall: float
    reason: str


def counter_evidence(
    objective: Objective, points: Tensor, profile: Profile, *, allowed: float
) -> CounterEvidence | None:
    """What speaks against the convergence of the polygon ``points`` [n, d]; None where nothing does.

    Objectives with minibatches are not looked at.

    Args:
        objective: the loss.
        points: the path.
        profile: its losses.
        allowed: a fall of this much counts as none, in units of loss.
    """
    if objective.batches != 1:
        return None
    change, integral = _steepest_change(objective, points, profile)
    if abs(change) > allowed and not abs(change - integral) <= _WRONG * abs(change):
        return CounterEvidence(
            math.inf,
            f"gradients do not fit the loss: between two samples it changes by {change:.3g}, and the "
            f"integral of its gradient is {integral:.3g}; is there a detach() or a rounding in the "
            "function, or does it jump?",
        )
    fall = _fall_across(objective, points, profile)
    if fall > allowed:
        return CounterEvidence(
            fall,
            f"the highest point is on a ridge: the loss falls by {fall:.3g} across the path; use another "
            "start, such as routes",
        )
    return None


def _steepest_change(objective: Objective, points: Tensor, profile: Profile) -> tuple[float, float]:
    """The largest change of the loss between two samples, and the integral of its gradient (Simpson)."""
    index = int(profile.losses.diff().abs().argmax())
    first, last = profile.positions[index], profile.positions[index + 1]
    wanted = torch.stack([first, 0.5 * (first + last), last])
    rows = at_positions(points, arc_positions(points), wanted)
    _, gradients = full_gradients(objective, rows)
    weights = torch.tensor([1.0, 4.0, 1.0], dtype=gradients.dtype, device=gradients.device) / 6
    integral = (weights @ gradients) @ (rows[2] - rows[0])
    return float(profile.losses[index + 1] - profile.losses[index]), float(integral)


def _fall_across(objective: Objective, points: Tensor, profile: Profile) -> float:
    """The largest fall of the loss that was seen beside the highest point, along a negative curvature.

    At distances that double from a tenth of the mean segment, as long as the loss falls. 0.0 where no
    direction across the path is proved to have a negative curvature.
    """
    dimension = points.shape[1]
    if dimension < 2:
        return 0.0
    peak, along, _ = highest_point(points, profile)

    def product(vector: Tensor) -> Tensor:
        return hessian_vector_products(objective, peak[None], vector[None])[0]

    zero = float(torch.finfo(peak.dtype).eps ** 0.5)  # of the largest: eigenvalues below it are 0
    start = torch.randn(dimension, generator=generator(0, "ridge"), dtype=torch.float64)
    pairs = lowest_eigenpairs(product, start.to(peak), 2, sign_above=zero, max_products=_PRODUCTS)
    nearest = _NEAREST * float(segment_lengths(points).mean())
    farthest = float(torch.linalg.vector_norm(points[-1] - points[0]))
    fall = 0.0
    for i, (value, residual) in enumerate(zip(pairs.values[:2], pairs.residuals[:2], strict=True)):
        direction = pairs.vectors[i].to(peak)
        across = i > 0 or abs(float(direction @ along)) < _ACROSS
        if across and float(value + residual) < -zero * pairs.largest:
            for side in (direction, -direction):
                fall = max(fall, _fall_along(objective, peak, side, nearest, farthest))
    return fall


def _fall_along(
    objective: Objective, peak: Tensor, direction: Tensor, nearest: float, farthest: float
) -> float:
    """The largest fall from ``peak`` along the unit vector ``direction``, while it grows."""

    def loss(point: Tensor) -> float:
        return float(full_gradients(objective, point[None])[0][0])

    top, distance, fall = loss(peak), nearest, 0.0
    while 0 < distance <= farthest:
        lower = top - loss(peak + distance * direction)
        if not (math.isfinite(lower) and lower > fall):
            break
        fall, distance = lower, 2 * distance
    return fall
