"""One iteration of a polish: a quasi-Newton step, and a step of Newton's method in a trust region."""

import math
from dataclasses import replace

from topo_core.critical_points.counting import (
    CountedObjective,
    length_scale,
    measured_rounding,
    stationary_tolerance,
)
from topo_core.critical_points.lbfgs import CurvaturePairs, line_search
from topo_core.critical_points.polish_state import PolishSettings, PolishState
from topo_core.critical_points.trust_region import newton_step

_FIRST_MOVE = 1e-3  # of the first step, in sizes of the parameters
_LONGEST = 0.1  # step of L-BFGS, in sizes
REGION = 0.1  # first radius of Newton's trust region, in sizes
_SMALLEST = 1e-14  # radius, in sizes, below which rounding rules
_MARGIN = 0.5  # of the tolerance: the largest curvature is estimated anew when it is judged
_FAR = 1e6  # sizes: parameters that have grown so far have left every minimum behind


def _tolerance(state: PolishState, settings: PolishSettings) -> float:
    given = settings.classify.tolerance
    if given is not None:
        return given
    return stationary_tolerance(
        state.largest, state.length, state.gradient_rounding, state.point.dtype
    )


def is_stationary(state: PolishState, settings: PolishSettings) -> bool:
    """Whether the gradient is clearly below the tolerance."""
    return float(state.gradient.norm()) <= _MARGIN * _tolerance(state, settings)


def quasi_newton_step(
    counted: CountedObjective, state: PolishState, settings: PolishSettings
) -> PolishState:
    """The state after one step of L-BFGS, or in its next phase: judged where the point is stationary,
    Newton's method where the iterations are used up or the line search fails.

    Args:
        counted: the loss; it counts what the step takes.
        state: in the phase ``lbfgs``.
        settings: of the polish.
    """
    if is_stationary(state, settings):
        return replace(state, phase="judge", iteration=0)
    if state.iteration >= settings.lbfgs_iterations(len(state.point)) or _has_left(state):
        return _to_newton(counted, state)
    norm = float(state.gradient.norm())
    direction = -state.pairs.inverse_times(state.gradient, _FIRST_MOVE * state.length / norm)
    if not float(direction @ state.gradient) < 0:
        return replace(state, pairs=CurvaturePairs.none(state.point), iteration=state.iteration + 1)
    trial = line_search(
        counted.at,
        state.point,
        state.loss,
        state.gradient,
        direction,
        first=min(1.0, _LONGEST * state.length / float(direction.norm())),
        rounding=state.loss_rounding,
    )
    if not trial.success:
        return _to_newton(counted, state)
    move, change = trial.point - state.point, trial.gradient - state.gradient
    return replace(
        state,
        point=trial.point,
        loss=trial.loss,
        gradient=trial.gradient,
        pairs=state.pairs.with_step(move, change, settings.memory),
        largest=max(state.largest, float(change.norm()) / max(float(move.norm()), 1e-300)),
        iteration=state.iteration + 1,
    )


def _has_left(state: PolishState) -> bool:
    """Whether the parameters have grown beyond everything, or the loss fallen."""
    grown = float(state.point.norm()) > _FAR * length_scale(state.start)
    return grown or not math.isfinite(state.loss)


def _to_newton(counted: CountedObjective, state: PolishState) -> PolishState:
    if _has_left(state):
        return replace(state, phase="judge", radius=0.0)
    rounding = measured_rounding(counted, state.point, state.loss, state.gradient)
    return replace(
        state,
        phase="newton",
        iteration=0,
        radius=REGION * state.length,
        loss_rounding=rounding.loss,
        gradient_rounding=rounding.gradient,
    )


def trust_region_step(
    counted: CountedObjective, state: PolishState, settings: PolishSettings
) -> PolishState:
    """The state after one step of Newton's method in a trust region, or judged where there is nothing left to
    do; the arguments are those of ``quasi_newton_step``, in the phase ``newton``.
    """
    if is_stationary(state, settings) or is_spent(state, settings):
        return replace(state, phase="judge")
    norm = float(state.gradient.norm())
    step, predicted = newton_step(
        lambda vector: counted.product(state.point, vector),
        state.gradient,
        state.radius,
        accuracy=min(0.1, math.sqrt(_tolerance(state, settings) / norm)),
        max_products=settings.products,
    )
    size = float(step.norm())
    point = state.point + step
    loss, gradient = counted.at(point)
    rounding = state.loss_rounding
    if predicted > 10 * rounding:
        agreement = (state.loss - loss) / predicted
    else:  # differences of losses are rounding: the gradient decides
        agreement = 1.0 if float(gradient.norm()) < norm and loss <= state.loss + rounding else 0.0
    radius = state.radius
    if not agreement > 0.25:
        radius = 0.25 * min(size, radius)
    elif agreement > 0.75 and size > 0.9 * radius:
        radius = min(2 * radius, _LONGEST * state.length)
    state = replace(state, radius=radius, iteration=state.iteration + 1)
    if not agreement > 1e-4:
        return state
    return replace(state, point=point, loss=loss, gradient=gradient)


def is_spent(state: PolishState, settings: PolishSettings) -> bool:
    """Whether Newton's method has used its iterations, or cannot move."""
    return state.iteration >= settings.newton or state.radius < _SMALLEST * state.length
