"""From the end of training to a minimum, with the proof: polish, classify, leave saddles, repeat.

L-BFGS does most of the work with gradients alone; Newton's method with conjugate gradients (Hessian–vector
products) does the rest. Where that ends at a saddle, the point is moved along a direction in which the loss
decreases, and polished again. Where it ends at a kink, the descent goes on along the kinks, in few
dimensions.

The state is a value: ``init_polish``, then ``advance_polish`` any number of times, with the same bits however
the iterations are cut into calls. What the result is, ``polish_result`` says.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from topo_core.critical_points.classification import ClassifySettings, Tangents, classify_point
from topo_core.critical_points.counting import (
    CountedObjective,
    length_scale,
    measured_rounding,
    stationary_tolerance,
)
from topo_core.critical_points.kink_descent import KinkDescent
from topo_core.critical_points.lbfgs import CurvaturePairs, line_search
from topo_core.critical_points.polish_along_kinks import along_kinks, with_nearby_gradients
from topo_core.critical_points.polish_state import PolishSettings, PolishState
from topo_core.critical_points.trust_region import newton_step
from topo_core.critical_points.verdicts import CriticalPoint, Verdict
from topo_core.objectives.protocol import Objective

_FIRST_MOVE = 1e-3  # of the first step, in sizes of the parameters
_LONGEST = 0.1  # step of L-BFGS, in sizes
_REGION = 0.1  # first radius of Newton's trust region, in sizes
_SMALLEST = 1e-14  # radius, in sizes, below which rounding rules
_LEAVE = 1e-3  # first distance from a saddle, in sizes; doubled while the loss keeps falling
_LEAVE_TRIALS = 20
_MARGIN = 0.5  # of the tolerance: the largest curvature is estimated anew when it is judged
_FAR = 1e6  # sizes: parameters that have grown so far have left every minimum behind


def init_polish(objective: Objective, point: Tensor) -> PolishState:
    """The state before the first iteration, at ``point`` [d]."""
    counted = CountedObjective(objective)
    point = point.detach().clone()
    loss, gradient = counted.at(point)
    finite = math.isfinite(loss) and bool(gradient.isfinite().all())
    largest = 0.0
    if finite and float(gradient.norm()) > 0:
        direction = gradient / gradient.norm()
        largest = float(counted.product(point, direction).norm())
    rounding = measured_rounding(counted, point, loss, gradient)
    return PolishState(
        point=point,
        gradient=gradient,
        start=point,
        pairs=CurvaturePairs.none(point),
        along=KinkDescent.none(point),
        loss=loss,
        phase="lbfgs" if finite else "done",
        iteration=0,
        radius=_REGION * length_scale(point),
        largest=largest if math.isfinite(largest) else 0.0,
        loss_rounding=rounding.loss,
        gradient_rounding=rounding.gradient,
        left=0,
        gradients=counted.gradients,
        products=counted.products,
    )


def advance_polish(
    objective: Objective,
    state: PolishState,
    settings: PolishSettings | None = None,
    *,
    iterations: int | None = None,
    symmetries: Tangents | None = None,
    seed: int = 0,
) -> PolishState:
    """``state`` after ``iterations`` more; when None, after all that are left.

    ``symmetries`` are those of ``classify_point``.
    """
    settings = settings or PolishSettings()
    done = 0
    while not state.done and (iterations is None or done < iterations):
        counted = CountedObjective(objective)
        if state.phase == "lbfgs":
            state = _lbfgs(counted, state, settings)
        elif state.phase == "newton":
            state = _newton(counted, state, settings)
        elif state.phase == "kink":
            state = along_kinks(counted, state, settings)
        else:
            state = _judge(counted, state, settings, symmetries, seed)
        state = replace(
            state,
            gradients=state.gradients + counted.gradients,
            products=state.products + counted.products,
        )
        done += 1
    return state


def polish_result(
    objective: Objective,
    state: PolishState,
    settings: PolishSettings | None = None,
    *,
    symmetries: Tangents | None = None,
    seed: int = 0,
) -> CriticalPoint:
    """What the point of a polish that is done is; its counts are those of the whole polish."""
    settings = settings or PolishSettings()
    critical = state.result
    if critical is None:
        critical = classify_point(
            objective,
            state.point,
            _at_scale(state, settings),
            symmetries=symmetries,
            origin=state.start,
            seed=seed,
        )
        critical = with_nearby_gradients(critical, state)
    return replace(critical, gradients=state.gradients, products=state.products)


def polish_minimum(
    objective: Objective,
    point: Tensor,
    settings: PolishSettings | None = None,
    *,
    symmetries: Tangents | None = None,
    seed: int = 0,
) -> CriticalPoint:
    """The stationary point that descent from ``point`` [d] leads to, and what it is.

    Args:
        objective: the loss, with exact gradients.
        point: [d], where training stopped; float64 is worth its price.
        settings: all defaults when None.
        symmetries: tangents of continuous symmetries of the loss, as for ``classify_point``.
        seed: of the random directions.
    """
    state = advance_polish(
        objective, init_polish(objective, point), settings, symmetries=symmetries, seed=seed
    )
    return polish_result(objective, state, settings, symmetries=symmetries, seed=seed)


def _tolerance(state: PolishState, settings: PolishSettings) -> float:
    given = settings.classify.tolerance
    if given is not None:
        return given
    return stationary_tolerance(
        state.largest, state.length, state.gradient_rounding, state.point.dtype
    )


def _at_scale(state: PolishState, settings: PolishSettings) -> ClassifySettings:
    return replace(settings.classify, length=settings.classify.length or state.length)


def _stationary(state: PolishState, settings: PolishSettings) -> bool:
    return float(state.gradient.norm()) <= _MARGIN * _tolerance(state, settings)


def _lbfgs(counted: CountedObjective, state: PolishState, settings: PolishSettings) -> PolishState:
    """One quasi-Newton step."""
    if _stationary(state, settings):
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
        radius=_REGION * state.length,
        loss_rounding=rounding.loss,
        gradient_rounding=rounding.gradient,
    )


def _newton(counted: CountedObjective, state: PolishState, settings: PolishSettings) -> PolishState:
    """One step of Newton's method in a trust region."""
    if _stationary(state, settings) or _is_spent(state, settings):
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


def _judge(
    counted: CountedObjective,
    state: PolishState,
    settings: PolishSettings,
    symmetries: Tangents | None,
    seed: int,
) -> PolishState:
    """Classify the point; from a saddle, move on to where the loss is lower."""
    critical = classify_point(
        counted.objective,
        state.point,
        _at_scale(state, settings),
        symmetries=symmetries,
        origin=state.start,
        seed=seed,
    )
    counted.gradients += critical.gradients
    counted.products += critical.products
    if critical.verdict is Verdict.SADDLE and state.left < settings.leave:
        return _leave(counted, state, critical)
    small = settings.kink > 0 and len(state.point) <= settings.whole
    if critical.verdict is Verdict.KINK and small and not state.along.begun:
        along = KinkDescent.begin(state.point, state.gradient, state.length)
        return replace(state, phase="kink", iteration=0, along=along)
    critical = with_nearby_gradients(critical, state)
    if critical.verdict is Verdict.NOT_STATIONARY and not _is_spent(state, settings):
        # Larger curvatures were met earlier, so the tolerance was larger than the one here.
        unit = stationary_tolerance(1.0, state.length, 0.0, state.point.dtype)
        state = replace(
            state, phase="newton", largest=critical.tolerance / unit, gradient_rounding=0.0
        )
        if not _stationary(state, settings):
            return state
    return replace(state, phase="done", result=critical)


def _is_spent(state: PolishState, settings: PolishSettings) -> bool:
    """Whether Newton's method has used its iterations, or cannot move."""
    return state.iteration >= settings.newton or state.radius < _SMALLEST * state.length


def _leave(counted: CountedObjective, state: PolishState, critical: CriticalPoint) -> PolishState:
    """Where the loss is lower on one side of a saddle."""
    assert critical.direction is not None  # every saddle has one
    step = _LEAVE * state.length * critical.direction
    best = state
    for _ in range(_LEAVE_TRIALS):
        both = torch.stack([state.point + step, state.point - step])
        losses, gradients = counted.batch(both)
        side = int(losses.nan_to_num(math.inf).argmin())
        if not float(losses[side]) < best.loss:
            if best is not state:
                break
            step = 0.25 * step  # too far to see the fall
            continue
        best = replace(best, point=both[side], loss=float(losses[side]), gradient=gradients[side])
        step = 2 * step
    if best is state:
        return replace(state, phase="done", result=critical)
    return replace(
        best,
        pairs=CurvaturePairs.none(state.point),
        phase="lbfgs",
        iteration=0,
        largest=max(state.largest, critical.largest_curvature),
        left=state.left + 1,
    )
