"""Whether a path has converged.

The end of the budget is no sign of convergence: between networks, heights were observed to halve from 100 to
200 epochs. A path is CONVERGED if it is as low as its higher end, or if two kinds of evidence agree:

- *History.* The fall that a further run would bring, extrapolated from the lowest height so far as a function
  of the time of the gradient flow (the sum of the learning rates, so that a decayed rate does not
  look like convergence). The falls in the last two quarters of the run are continued as a geometric
  progression; the estimate is never less than the fall in the last quarter.
- *The path that is returned.* The force at its highest point (``stationarity``) must be small, if gradients
  over the whole training set are known. The lowest height so far never rises, so the history alone would
  accept a path that diverges, or whose steps are too short in some directions. With exact gradients,
  ``counter_evidence`` must also find neither a ridge nor gradients of another function.

A run is STALLED if its height no longer falls and its highest point is not stationary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import torch

from topo_core.paths.counter_evidence import CounterEvidence
from topo_core.paths.profiles import Profile, is_as_low_as
from topo_core.paths.settings import SEARCHED, ResolvedSettings
from topo_core.paths.state import PathState
from topo_core.paths.stationarity import PeakForce

# records with a vanishing normal gradient before the run ends; one may be chance
_STILL_RECORDS = 3
_PATIENCE = 40  # epochs before a path that is higher than its start may be given up
_LEVEL_RECORDS = 10  # records with an unchanged height before the run ends; fewer may be a plateau
# Largest ratio of successive falls that is summed as a geometric series: the sum is at most 19 times the
# last fall, so that two noisy falls of equal size do not predict an infinite one.
_SLOWEST = 0.95
_DECAYED = 0.1  # share of the base learning rate below which a decayed rate is named as the reason
_CUT = 0.5  # share of displacements cut to max_move from which the cut is named as the reason


class Outcome(Enum):
    """How an optimisation ended."""

    CONVERGED = "converged"
    """Within its valley the path cannot become lower by more than the tolerance."""
    BUDGET = "budget"
    """The height may still fall: more epochs may lower it."""
    STALLED = "stalled"
    """The height no longer falls, but the path is not stationary: other settings may lower it."""
    DIVERGED = "diverged"
    """Stopped early because values became infinite or NaN; the returned path is the best finite one."""


@dataclass(frozen=True)
class Evidence:
    """The measurements from which an outcome follows. Falls are in units of loss.

    Attributes:
        remaining_fall: estimated further fall of the height; at most down to the higher end.
        allowed_fall: largest remaining fall with which a path counts as converged.
        last_quarter_fall: by how much the height fell in the last quarter of the run.
        normal_norm: root mean square of the normal gradients in the last record; 0 on a converged path.
        peak_force: norm of the force at the highest point of the returned path, in units of loss over
            length; NaN where it was not measured.
        stretch: longest over shortest segment.
        arc_ratio: length of the path over the distance of its ends.
        reason: the outcome explained in one sentence.
    """

    remaining_fall: float
    allowed_fall: float
    last_quarter_fall: float
    normal_norm: float
    peak_force: float
    stretch: float
    arc_ratio: float
    reason: str


def judge(
    state: PathState,
    profile: Profile,
    resolved: ResolvedSettings,
    force: PeakForce | None,
    *,
    finished: bool,
    against: CounterEvidence | None = None,
) -> tuple[Outcome, Evidence]:
    """The outcome of a run, and the evidence for it.

    Args:
        state: the last state of the run.
        profile: the losses along the best path.
        resolved: the settings.
        force: the force at the highest point of the best path; None where it is not known.
        finished: whether the run has ended; otherwise it was interrupted with epochs left.
        against: evidence against convergence, found although history and force indicate convergence.
    """
    ends = max(float(profile.losses[0]), float(profile.losses[-1]))
    barrier = profile.maximum - ends
    allowed = resolved.settings.convergence_tolerance * barrier
    quarter, extrapolated = further_fall(state.history)
    lowest = lowest_possible(state)
    # If noise kept every epoch higher than a trained start, the history gives no estimate of a further fall.
    unknown = state.steps == 0 or (state.best_epoch == 0 and force is None)
    # Once the path has risen above its best state, the history tells nothing about that best state.
    left = force is None and state.history[-1].dense_maximum > state.best_maximum + allowed
    expected = max(extrapolated, force.fall if force else 0.0, against.fall if against else 0.0)
    remaining = 0.0 if lowest else barrier if unknown or left else min(expected, barrier)
    if state.failure:
        outcome, reason = Outcome.DIVERGED, state.failure
    elif finished and lowest:
        outcome, reason = Outcome.CONVERGED, "no path is lower than its higher end"
    elif state.verified is not None:
        remaining = 0.0 if state.verified.searched else barrier
        outcome = Outcome.CONVERGED if state.verified.searched else Outcome.BUDGET
        reason = f"{state.verified}, and the search below it " + (
            "found no lower one" if state.verified.searched else "is not complete"
        )
    elif state.steps == 0:
        outcome = Outcome.BUDGET
        reason = "no step was taken, so the further fall is unknown; raise epochs"
    elif unknown:
        outcome = Outcome.BUDGET
        reason = "no epoch was lower than the start, so the further fall is unknown; raise epochs"
    elif finished and remaining <= allowed and against is None:
        outcome = Outcome.CONVERGED
        reason = f"the height would fall by {remaining:.3g} more, below {allowed:.3g}"
    elif not finished or min(extrapolated, barrier) > allowed:
        outcome = Outcome.BUDGET
        reason = f"the height would fall by {remaining:.3g} more, above {allowed:.3g}; raise epochs"
    else:
        outcome = Outcome.STALLED
        reason = f"the height no longer falls; {_cause(state, resolved, allowed)}"
        if against is not None:
            reason = f"the height no longer falls, but {against.reason}"
        elif force is not None:
            reason = (
                f"the height no longer falls, but a force of {force.norm:.3g} is left at the highest "
                f"point; {_cause(state, resolved, allowed)}"
            )
    last = state.history[-1]
    return outcome, Evidence(
        remaining_fall=remaining,
        allowed_fall=allowed,
        last_quarter_fall=quarter,
        normal_norm=last.normal_norm,
        peak_force=force.norm if force else math.nan,
        stretch=last.stretch,
        arc_ratio=last.length / state.chord if state.chord > 0 else math.inf,
        reason=reason + ".",
    )


def _cause(state: PathState, resolved: ResolvedSettings, allowed: float) -> str:
    """Why a path has stalled, and what to change."""
    last = state.history[-1]
    if last.dense_maximum > state.best_maximum + allowed:
        return (
            f"after epoch {state.best_epoch} the path rose to {last.dense_maximum:.4g}: its steps are too "
            "long, lower the learning rate"
        )
    if last.cut >= _CUT:
        return (
            f"{last.cut:.0%} of the displacements are cut to max_move = {resolved.max_move}: raise it, "
            "or use fewer points"
        )
    if resolved.optimizer.lr * _DECAYED > last.rate > 0 and state.batches > 1:
        return f"the learning rate has decayed to {last.rate:.3g}: raise epochs"
    return (
        "steps that fit the steepest directions are too short for the others, or the polygon is too "
        "coarse: use more points, or another optimizer or start"
    )


def search_is_incomplete(state: PathState, resolved: ResolvedSettings) -> bool:
    """Whether the initial path came from a search over several valleys that verified no pass.

    The path is then the lowest in its own valley, but another valley may be lower. In more than ``SEARCHED``
    dimensions no search is expected to be complete, and CONVERGED refers to the valley alone.
    """
    return (
        resolved.start == "saddles" and state.points.shape[1] <= SEARCHED and state.verified is None
    )


def lowest_possible(state: PathState) -> bool:
    """Whether no path can be lower than the best one; see ``is_as_low_as``."""
    return is_as_low_as(state.best_maximum, state.losses[[0, -1], 0], state.points.dtype)


def cannot_catch_up(state: PathState, resolved: ResolvedSettings) -> bool:
    """Whether a path stays higher than the route of a search, at which it began.

    A route between badly scaled minima has more points than a path may have. The path that moves has fewer,
    so it begins higher than the route. It is given up if it does not reach the height of the route even if
    each doubling of its epochs lowers it by as much as the last one did.
    """
    if resolved.start != "saddles" or not resolved.settles or state.best_epoch > 0:
        return False
    now = state.history[-1]
    if now.epoch < _PATIENCE:
        return False
    half = min(
        (record for record in state.history if 2 * record.epoch >= now.epoch),
        key=lambda record: record.epoch,
    )
    fall = max(half.dense_maximum - now.dense_maximum, 0.0)
    doublings = math.log2(resolved.epochs / now.epoch)
    return now.dense_maximum - fall * doublings > state.best_maximum


def has_stopped_moving(state: PathState, resolved: ResolvedSettings) -> bool:
    """Whether exact gradients no longer change the path.

    Either their normal parts vanish, or the height has stayed within the tolerance for ``_LEVEL_RECORDS``
    records. (In the second case the points only oscillate, because the upwind tangent switches between
    neighbours or because points are redistributed.)
    """
    climbs_from = resolved.climbs_from if resolved.settings.climbing_epochs else 0
    records = [record for record in state.history[1:] if record.epoch > climbs_from]
    if not resolved.settles or len(records) < _STILL_RECORDS:
        return False
    still = math.sqrt(torch.finfo(state.points.dtype).eps)
    last = records[-_STILL_RECORDS:]
    if all(record.normal_norm <= still * last[0].tangent_norm for record in last):
        return True
    heights = [record.dense_maximum for record in records[-_LEVEL_RECORDS:]]
    barrier = max(heights) - float(state.losses[[0, -1]].max())
    stays = max(heights) - min(heights) <= resolved.settings.height_tolerance * barrier
    return len(heights) == _LEVEL_RECORDS and stays


class HeightMeasurement(Protocol):
    """A measurement of a path or of a simplex."""

    @property
    def time(self) -> float:
        """Time of the gradient flow: the sum of the learning rates."""

    @property
    def dense_maximum(self) -> float:
        """The height at that time."""


def further_fall(history: Sequence[HeightMeasurement]) -> tuple[float, float]:
    """The fall in the last quarter of the run, and the estimated further fall, both in units of loss.

    The further fall is infinite for a history without a step.
    """
    total = history[-1].time
    if not total > 0:
        return 0.0, math.inf
    middle, late, now = (_lowest_by(history, part * total) for part in (0.5, 0.75, 1.0))
    before, after = middle - late, late - now
    if after <= 0:
        return 0.0, 0.0
    ratio = min(after / before, _SLOWEST) if before > 0 else _SLOWEST
    return after, max(after, after * ratio / (1 - ratio))


def _lowest_by(history: Sequence[HeightMeasurement], time: float) -> float:
    """The lowest height recorded up to ``time``."""
    return min(r.dense_maximum for r in history if r.time <= time or r is history[0])
