"""Whether an optimised simplex has converged.

As for a path (``topo_core.paths.convergence``), two kinds of evidence must agree: the history of the maximum,
and the returned simplex. The lowest maximum so far never rises, so the history alone would accept a simplex
that diverged because its steps were too long. If a simplex cannot be lowered, its highest point is stationary
across the simplex. So the normal force there is measured if gradients over the whole training set are known.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective
from topo_core.paths.convergence import Outcome, further_fall
from topo_core.paths.counter_evidence import CounterEvidence, lower_across, wrong_gradients
from topo_core.paths.stationarity import PeakForce, force_at
from topo_core.simplices.profiles import SimplexProfile
from topo_core.simplices.settings import SimplexSettings
from topo_core.simplices.solver import simplex_is_finished
from topo_core.simplices.state import SimplexState

_NEAR = 0.01  # radius of the neighbourhood of the highest point, in units of the size of its cell


@dataclass(frozen=True)
class SimplexVerdict:
    """How an optimisation of a simplex ended.

    Attributes:
        outcome: CONVERGED, BUDGET (the value may still fall), STALLED (the value no longer falls, but the
            highest point is not stationary) or DIVERGED.
        remaining_fall: estimated further fall of the value, in units of loss; at most down to the faces.
        reason: the outcome explained in one sentence.
    """

    outcome: Outcome
    remaining_fall: float
    reason: str


def judge_simplex(
    objective: Objective, state: SimplexState, profile: SimplexProfile, settings: SimplexSettings
) -> SimplexVerdict:
    """The outcome of ``state``, whose best simplex has ``profile``."""
    above_faces = max(profile.maximum, state.floor) - state.floor
    allowed = settings.convergence_tolerance * above_faces
    if state.failure:
        return SimplexVerdict(Outcome.DIVERGED, math.inf, f"{state.failure}.")
    if above_faces <= state.tolerance:
        return SimplexVerdict(Outcome.CONVERGED, 0.0, "nothing on it is higher than its faces.")
    force = normal_force(objective, state, profile, settings)
    rose = state.history[-1].dense_maximum > state.best_maximum + allowed + state.tolerance
    extrapolated = min(further_fall(state.history)[1], above_faces)
    if rose and force is None:
        reason = f"{_rise(state)}, and nothing is known of a further fall; lower the learning rate."
        return SimplexVerdict(Outcome.BUDGET, above_faces, reason)
    remaining = min(max(extrapolated, force.fall if force else 0.0), above_faces)
    finished = simplex_is_finished(state, settings)
    if finished and remaining <= allowed:
        against = _counter_evidence(objective, state, profile, settings, allowed)
        if against is not None:
            fall = min(against.fall, above_faces)
            reason = f"its value no longer falls, but {against.reason}."
            return SimplexVerdict(Outcome.STALLED, fall, reason)
        reason = f"its value would fall by {remaining:.3g} more, below {allowed:.3g}."
        return SimplexVerdict(Outcome.CONVERGED, remaining, reason)
    if finished and extrapolated <= allowed and force:
        cause = f"{_rise(state)}: lower the learning rate" if rose else "use more subdivisions"
        reason = (
            f"its value no longer falls, but a force of {force.norm:.3g} is left at its highest "
            f"point; {cause}."
        )
        return SimplexVerdict(Outcome.STALLED, remaining, reason)
    reason = f"its value would fall by {remaining:.3g} more, above {allowed:.3g}; raise epochs."
    return SimplexVerdict(Outcome.BUDGET, remaining, reason)


def _rise(state: SimplexState) -> str:
    return (
        f"its maximum rose from {state.best_maximum:.4g} after epoch {state.best_epoch} to "
        f"{state.history[-1].dense_maximum:.4g}"
    )


def normal_force(
    objective: Objective, state: SimplexState, profile: SimplexProfile, settings: SimplexSettings
) -> PeakForce | None:
    """The force at the highest point of the best simplex, without its part within the cell there.

    None if gradients over the whole training set are not known.
    """
    peak, tangents, size = _highest_point(state, profile)
    return force_at(
        objective,
        peak,
        tangents,
        radius=_NEAR * size,
        distance=_diameter(state),
        l2=settings.l2,
    )


def _counter_evidence(
    objective: Objective,
    state: SimplexState,
    profile: SimplexProfile,
    settings: SimplexSettings,
    allowed: float,
) -> CounterEvidence | None:
    """As for a path: gradients that are not those of the loss, or a lower loss across the highest point."""
    peak, tangents, size = _highest_point(state, profile)
    against = wrong_gradients(objective, state.best, distance=_NEAR * size)
    if against is not None or state.batches != 1:
        return against
    return lower_across(
        objective,
        peak,
        tangents,
        size=size,
        farthest=_diameter(state),
        allowed=allowed,
        l2=settings.l2,
    )


def _highest_point(state: SimplexState, profile: SimplexProfile) -> tuple[Tensor, Tensor, float]:
    """The highest point [d] of the best simplex, tangents [r, d] of its cell, and the size of the cell."""
    nodes, weights = state.nodes.interpolation(profile.argmax[None] * state.subdivisions)
    corners = state.best[nodes[0].to(state.best.device)]  # [r + 1, d]
    edges = corners[1:] - corners[0]
    tangents = torch.linalg.qr(edges.T)[0].T  # for a degenerate cell they span more than the cell
    size = float(torch.linalg.vector_norm(edges, dim=1).max())
    return weights[0].to(corners) @ corners, tangents, size


def _diameter(state: SimplexState) -> float:
    return float(torch.cdist(state.best, state.best).max())
