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

from topo_core.paths.profiles import Profile
from topo_core.paths.settings import PathSettings
from topo_core.paths.solver import finished, is_as_low_as_its_end
from topo_core.paths.state import PathState

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


def judge(state: PathState, found: Profile, settings: PathSettings) -> tuple[Outcome, Evidence]:
    """The outcome of ``state``, whose best path has the profile ``found``."""
    ends = max(float(found.losses[0]), float(found.losses[-1]))
    barrier = found.maximum - ends
    allowed = settings.convergence_tolerance * barrier
    quarter, remaining = further_fall(state.history)
    lowest = is_as_low_as_its_end(state)
    # Where noise has kept all epochs above a trained start, they say nothing of what more would bring.
    silent = state.best_epoch == 0 and not settings.resolve(state.batches).settles
    possible = barrier if silent else min(remaining, barrier)
    remaining = 0.0 if lowest else possible
    last = state.history[-1]
    done = finished(state, settings)
    if state.failure:
        outcome, reason = Outcome.DIVERGED, state.failure
    elif done and remaining <= allowed:
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
