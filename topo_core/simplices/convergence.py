"""Whether an optimised simplex has converged.

The result is the simplex with the lowest dense maximum so far. That maximum can only fall, so it says
nothing of what the simplex does now, and convergence is judged on the simplex that is returned:

- nothing on it is higher than its faces; or
- the optimisation is still beside it at the end (its last maximum is not above the lowest by more
  than what counts as converged), and the extrapolated further fall is small; or
- the optimisation has left it, but at its highest point the gradient normal to it is so small that
  moving the point by the size of a cell changes the loss by less than what counts as converged.
"""

import math
from dataclasses import dataclass

import torch

from topo_core.objectives.curvature import full_gradients
from topo_core.objectives.protocol import CurvatureObjective, Objective
from topo_core.paths.convergence import Outcome, further_fall
from topo_core.simplices.profiles import SimplexProfile
from topo_core.simplices.settings import SimplexSettings
from topo_core.simplices.solver import simplex_is_finished
from topo_core.simplices.state import SimplexState


@dataclass(frozen=True)
class SimplexVerdict:
    """How an optimisation of a simplex ended.

    Attributes:
        outcome: CONVERGED, BUDGET (its value may still fall) or DIVERGED.
        remaining_fall: by how much its value would still fall, extrapolated; at most to its faces.
        reason: one sentence.
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
    if state.history[-1].dense_maximum > state.best_maximum + allowed + state.tolerance:
        return _judge_after_rise(objective, state, profile, above_faces, allowed)
    remaining = min(further_fall(state.history)[1], above_faces)
    finished = simplex_is_finished(state, settings)
    if finished and state.epoch < settings.total_epochs(state.batches):
        reason = "exact gradients no longer change its maximum."
        return SimplexVerdict(Outcome.CONVERGED, remaining, reason)
    if finished and remaining <= allowed:
        reason = f"its value would fall by {remaining:.3g} more, below {allowed:.3g}."
        return SimplexVerdict(Outcome.CONVERGED, remaining, reason)
    reason = f"its value would fall by {remaining:.3g} more, above {allowed:.3g}; raise epochs."
    return SimplexVerdict(Outcome.BUDGET, remaining, reason)


def _judge_after_rise(
    objective: Objective,
    state: SimplexState,
    profile: SimplexProfile,
    above_faces: float,
    allowed: float,
) -> SimplexVerdict:
    """The outcome where the simplex has become higher again after its lowest maximum."""
    fall = first_order_fall(objective, state, profile)
    if fall <= allowed:
        reason = (
            "at its highest point the gradient normal to it would change the loss by "
            f"{fall:.3g} over a cell, below {allowed:.3g}."
        )
        return SimplexVerdict(Outcome.CONVERGED, fall, reason)
    reason = (
        f"its maximum rose from {state.best_maximum:.4g} after epoch {state.best_epoch} to "
        f"{state.history[-1].dense_maximum:.4g}, so a further fall cannot be extrapolated; lower the "
        "learning rate."
    )
    return SimplexVerdict(Outcome.BUDGET, min(fall, above_faces), reason)


def first_order_fall(objective: Objective, state: SimplexState, profile: SimplexProfile) -> float:
    """The gradient normal to the best simplex at its highest point, times the size of a cell there.

    Infinite where the objective has gradients on minibatches only.
    """
    if not isinstance(objective, CurvatureObjective) and objective.batches != 1:
        return math.inf
    nodes, weights = state.nodes.interpolation(profile.argmax[None] * state.subdivisions)
    corners = state.best[nodes[0].to(state.best.device)]  # [r + 1, d]
    point = (weights[0, :, None].to(corners) * corners).sum(0, keepdim=True)
    _, gradients = full_gradients(objective, point)
    edges = corners[1:] - corners[0]
    size = float(torch.linalg.vector_norm(edges, dim=1).max())
    tangent = torch.linalg.qr(edges.T)[0]  # [d, r]; of a flat cell, more than its plane
    gradient = gradients[0]
    normal = gradient - tangent @ (tangent.T @ gradient)
    return float(torch.linalg.vector_norm(normal)) * size
