"""The phase of a polish that descends along kinks, and what it says about the point where it ends."""

from dataclasses import replace

from topo_core.critical_points.counting import CountedObjective
from topo_core.critical_points.kink_descent import kink_step
from topo_core.critical_points.polish_state import PolishSettings, PolishState
from topo_core.critical_points.verdicts import CriticalPoint, Verdict

_CHECK = 50  # steps along kinks between two tests of stationarity
_CLARKE = 1e-6  # smallest vector in the hull, as a part of the largest gradient, at which the descent ends


def along_kinks(
    counted: CountedObjective, state: PolishState, settings: PolishSettings
) -> PolishState:
    """One step of the descent along kinks, until the gradients nearby have zero in their hull."""
    size = float(state.along.gradients.norm(dim=1).max())
    checked = state.iteration % _CHECK == _CHECK - 1
    if state.iteration >= settings.kink or (
        checked and state.along.smallest(state.point, state.length) <= _CLARKE * size
    ):
        return replace(state, phase="judge")
    step = kink_step(counted.at, state.point, state.loss, state.gradient, state.along)
    if step is None:
        return replace(state, phase="judge")
    point, loss, gradient, along = step
    return replace(
        state,
        point=point,
        loss=loss,
        gradient=gradient,
        along=along,
        iteration=state.iteration + 1,
    )


def with_nearby_gradients(critical: CriticalPoint, state: PolishState) -> CriticalPoint:
    """The kink at the end of a descent along kinks, whose gradients nearby are more than those of the
    classification.
    """
    if critical.verdict is not Verdict.KINK or not state.along.begun:
        return critical
    smallest = state.along.smallest(state.point, state.length)
    return replace(critical, smallest_subgradient=min(critical.smallest_subgradient, smallest))
