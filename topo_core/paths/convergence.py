"""Whether a path has converged, from the fall of its height.

A path that has used its budget has not converged: heights of networks were seen to halve from
100 to 200 epochs. What a further run would bring is extrapolated from the lowest height so
far, as a function of the time of the gradient flow (the sum of the learning rates, so that a
decayed rate does not look like convergence): falls over the last two quarters in a geometric
progression, and never less than the last of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import torch

from topo_core.paths.profiles import Profile, is_as_low_as
from topo_core.paths.settings import Resolved
from topo_core.paths.state import PathState

_RESTS = 3  # records without a normal component before the run ends
_SHAKES = 10  # records of an unchanged height before the run ends
_SLOWEST = 0.95  # largest ratio of successive falls that is summed as a geometric series


class Outcome(Enum):
    """How an optimisation ended."""

    CONVERGED = "converged"
    BUDGET = "budget"
    DIVERGED = "diverged"


@dataclass(frozen=True)
class Evidence:
    """Why an outcome is what it is.

    Attributes:
        remaining_fall: by how much the height would still fall, extrapolated; at most to the higher end.
        allowed_fall: what counts as converged.
        last_quarter_fall: by how much it fell in the last quarter of the run.
        normal_norm: of the last record, a gradient; 0 on a converged path.
        stretch: longest over shortest segment.
        arc_ratio: length of the path over the distance of its ends.
        reason: one sentence.
    """

    remaining_fall: float
    allowed_fall: float
    last_quarter_fall: float
    normal_norm: float
    stretch: float
    arc_ratio: float
    reason: str


def judge(
    state: PathState, profile: Profile, resolved: Resolved, *, finished: bool
) -> tuple[Outcome, Evidence]:
    """The outcome of ``state``, whose best path has this profile. ``finished``: its run has ended."""
    ends = max(float(profile.losses[0]), float(profile.losses[-1]))
    barrier = profile.maximum - ends
    allowed = resolved.settings.convergence_tolerance * barrier
    quarter, remaining = further_fall(state.history)
    lowest = lowest_possible(state)
    # Where noise has kept all epochs above a trained start, they say nothing of what more would bring.
    silent = state.best_epoch == 0 and not resolved.settles
    possible = barrier if silent else min(remaining, barrier)
    remaining = 0.0 if lowest else possible
    last = state.history[-1]
    if state.failure:
        outcome, reason = Outcome.DIVERGED, state.failure
    elif finished and remaining <= allowed:
        outcome = Outcome.CONVERGED
        reason = f"the height would fall by {remaining:.3g} more, below {allowed:.3g}"
        if lowest:
            reason = "no path is lower than its higher end"
    elif silent:
        outcome = Outcome.BUDGET
        reason = (
            "no epoch was lower than the start, so nothing is known of a further fall; raise epochs"
        )
    else:
        outcome = Outcome.BUDGET
        reason = f"the height would fall by {remaining:.3g} more, above {allowed:.3g}; raise epochs"
    return outcome, Evidence(
        remaining_fall=remaining,
        allowed_fall=allowed,
        last_quarter_fall=quarter,
        normal_norm=last.normal_norm,
        stretch=last.stretch,
        arc_ratio=last.length / state.chord if state.chord > 0 else math.inf,
        reason=reason + ".",
    )


def lowest_possible(state: PathState) -> bool:
    """Whether no path can be lower than the best one; see ``is_as_low_as``."""
    return is_as_low_as(state.best_maximum, float(state.losses[[0, -1]].max()))


def has_stopped_moving(state: PathState, resolved: Resolved) -> bool:
    """Whether exact gradients no longer change the path.

    Either they have no part across the path any more, or they only shake it (the upwind tangent
    switches, points are spread again) and its height has long stayed within the tolerance.
    """
    climbs_from = resolved.climbs_from if resolved.settings.climbing_epochs else 0
    records = [record for record in state.history[1:] if record.epoch > climbs_from]
    if not resolved.settles or len(records) < _RESTS:
        return False
    still = math.sqrt(torch.finfo(state.points.dtype).eps)
    last = records[-_RESTS:]
    if all(record.normal_norm <= still * last[0].tangent_norm for record in last):
        return True
    heights = [record.dense_maximum for record in records[-_SHAKES:]]
    barrier = max(heights) - float(state.losses[[0, -1]].max())
    stays = max(heights) - min(heights) <= resolved.settings.height_tolerance * barrier
    return len(heights) == _SHAKES and stays


class Measured(Protocol):
    """A measurement of a path or of a simplex."""

    @property
    def time(self) -> float:
        """Of the gradient flow."""

    @property
    def dense_maximum(self) -> float:
        """The height then."""


def further_fall(history: Sequence[Measured]) -> tuple[float, float]:
    """The fall in the last quarter of the run, and the fall still to come.

    Infinite for a history without a step.
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


def _lowest_by(history: Sequence[Measured], time: float) -> float:
    """The lowest height recorded up to ``time``."""
    return min(r.dense_maximum for r in history if r.time <= time or r is history[0])
