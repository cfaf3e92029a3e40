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
from topo_core.critical_points.lbfgs import CurvaturePairs
from topo_core.critical_points.polish_along_kinks import along_kinks, with_nearby_gradients
from topo_core.critical_points.polish_state import PolishSettings, PolishState
from topo_core.critical_points.polish_steps import (
    REGION,
    is_spent,
    is_stationary,
    quasi_newton_step,
    trust_region_step,
)
from topo_core.critical_points.verdicts import CriticalPoint, Verdict
from topo_core.objectives.protocol import Objective

_LEAVE = 1e-3  # first distance from a saddle, in sizes; doubled while the loss keeps falling
_LEAVE_TRIALS = 20


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
        radius=REGION * length_scale(point),
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
            state = quasi_newton_step(counted, state, settings)
        elif state.phase == "newton":
            state = trust_region_step(counted, state, settings)
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


def _at_scale(state: PolishState, settings: PolishSettings) -> ClassifySettings:
    return replace(settings.classify, length=settings.classify.length or state.length)


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
    if critical.verdict is Verdict.NOT_STATIONARY and not is_spent(state, settings):
        # Larger curvatures were met earlier, so the tolerance was larger than the one here.
        unit = stationary_tolerance(1.0, state.length, 0.0, state.point.dtype)
        state = replace(
            state, phase="newton", largest=critical.tolerance / unit, gradient_rounding=0.0
        )
        if not is_stationary(state, settings):
            return state
    return replace(state, phase="done", result=critical)


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
