"""Evidence against a path or a simplex that seems to have converged.

The force at the highest point can be small although there is no pass. There are two reasons:

- *A ridge, a concave kink, or badly scaled coordinates.* If a path lies on a ridge by symmetry, no force acts
  across it: the straight line over the hill of (r² − 1)² has its highest point where the gradient is zero. If
  the loss falls across the path (``critical_points.falls_across``), there is a lower path beside it.
- *Gradients that are not those of the loss*, for example of a piecewise constant function, or of a graph that
  is cut by ``detach``. Then the integral of the gradient along a part of the path is not the change of the
  loss, or the gradient differs from difference quotients (``objectives.gradient_check``).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.critical_points.falls_across import fall_across
from topo_core.objectives.curvature import full_gradients
from topo_core.objectives.gradient_check import gradient_fault
from topo_core.objectives.protocol import CurvatureObjective, Objective
from topo_core.objectives.weight_decay import WithWeightDecay
from topo_core.paths.polyline import arc_positions, at_positions, segment_lengths
from topo_core.paths.profiles import Profile
from topo_core.paths.stationarity import highest_point
from topo_core.random_streams import generator

_NEAREST = 0.1  # smallest distance from the peak at which losses are compared, in segment lengths
_CHECKED = 3  # points at which gradients are compared with difference quotients
# random displacement of these points, in segment lengths; it avoids kinks on symmetric paths
_MOVED = 0.01
# largest error of the integral of the gradient, as a fraction of the change of the loss
_WRONG = 0.5


@dataclass(frozen=True)
class CounterEvidence:
    """Why a path that seems to have converged has not.

    Attributes:
        fall: by how much the height may still fall, in units of loss; infinite if unknown.
        reason: a clause, to be used inside a sentence.
    """

    fall: float
    reason: str


def counter_evidence(
    objective: Objective, points: Tensor, profile: Profile, *, allowed: float, l2: float = 0.0
) -> CounterEvidence | None:
    """Evidence against the convergence of the polygon ``points`` [n, d]; None where there is none.

    With minibatch gradients only the gradients are checked, since their noise moves a path off a ridge.

    Args:
        objective: the loss.
        points: the path.
        profile: its losses.
        allowed: largest fall that is ignored, in units of loss.
        l2: weight decay of the path's gradients.
    """
    length = float(segment_lengths(points).mean())
    against = _wrong_integral(objective, points, profile, allowed) or wrong_gradients(
        objective, points, distance=_MOVED * length
    )
    if against is not None or objective.batches != 1:
        return against
    peak, along, _ = highest_point(points, profile)
    return lower_across(
        objective,
        peak,
        along[None],
        size=length,
        farthest=float(torch.linalg.vector_norm(points - points[:1], dim=1).max()),
        allowed=allowed,
        l2=l2,
    )


def wrong_gradients(
    objective: Objective, points: Tensor, *, distance: float
) -> CounterEvidence | None:
    """Evidence that gradients are not those of the loss, from a few of ``points`` [n, d].

    The points are first displaced at random by about ``distance``.
    """
    draw = generator("checked points")
    chosen = points[torch.linspace(0, len(points) - 1, _CHECKED + 2).long()[1:-1]]
    noise = torch.randn(chosen.shape, generator=draw, dtype=torch.float64).to(points)
    scale = distance / math.sqrt(points.shape[1])
    fault = gradient_fault(objective, chosen + scale * noise)
    return None if fault is None else CounterEvidence(math.inf, _do_not_fit(fault))


def lower_across(
    objective: Objective,
    peak: Tensor,
    tangents: Tensor,
    *,
    size: float,
    farthest: float,
    allowed: float,
    l2: float,
) -> CounterEvidence | None:
    """Evidence that the loss falls across the ``tangents`` [r, d] at the highest point ``peak`` [d].

    Args:
        objective: the loss, with exact gradients.
        peak: [d], the highest point of a path or a simplex.
        tangents: [r, d], unit vectors along the path or simplex there.
        size: length of its segments or cells.
        farthest: largest distance from the peak at which losses are compared.
        allowed: largest fall that is ignored, in units of loss.
        l2: weight decay of its gradients.
    """
    whole = WithWeightDecay(objective, l2) if l2 else objective
    fall = fall_across(whole, peak, tangents, nearest=_NEAREST * size, farthest=farthest)
    if not fall > allowed:
        return None
    return CounterEvidence(
        fall,
        f"the loss falls by {fall:.3g} across it at its highest point, which is on a ridge or on a slope of "
        "badly scaled coordinates; use another start, such as saddles or routes",
    )


def _wrong_integral(
    objective: Objective, points: Tensor, profile: Profile, allowed: float
) -> CounterEvidence | None:
    """Evidence from the pair of neighbouring samples whose losses differ most.

    The difference is compared with the integral of the gradient between them, by Simpson's rule.
    """
    if objective.batches != 1 and not isinstance(objective, CurvatureObjective):
        return None
    index = int(profile.losses.diff().abs().argmax())
    first, last = profile.positions[index], profile.positions[index + 1]
    wanted = torch.stack([first, 0.5 * (first + last), last])
    rows = at_positions(points, arc_positions(points), wanted)
    _, gradients = full_gradients(objective, rows)
    simpson = torch.tensor([1.0, 4.0, 1.0], dtype=gradients.dtype, device=gradients.device) / 6
    integral = float((simpson @ gradients) @ (rows[2] - rows[0]))
    change = float(profile.losses[index + 1] - profile.losses[index])
    if abs(change) <= allowed or abs(change - integral) <= _WRONG * abs(change):
        return None
    return CounterEvidence(
        math.inf,
        _do_not_fit(
            f"between two samples it changes by {change:.3g}, and the integral of its gradient is "
            f"{integral:.3g}"
        ),
    )


def _do_not_fit(fault: str) -> str:
    return (
        f"gradients do not fit the loss: {fault}; is there a detach() or a rounding in the function, or "
        "does it jump?"
    )
