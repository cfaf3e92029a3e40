"""A path between two minima goes down to a pass: the door to Algorithm 2 and its improvements.

The loop is ``init -> advance -> ... -> solution`` on a ``PathState``, and ``optimize_path`` runs
it. The known methods are choices: Algorithm 2 is ``force="paper"``, the string method
``force="string"`` with redistribution, the nudged elastic band ``force="spring"``, AutoNEB that
with ``Insertion(criterion="residual")``. What is returned is never worse than the start.
"""

from dataclasses import dataclass

from torch import Tensor

from topo_core.objectives.protocol import Objective
from topo_core.paths.convergence import Evidence, Outcome, judge
from topo_core.paths.profiles import Profile
from topo_core.paths.settings import PathSettings
from topo_core.paths.solver import advance, finished, init, measure
from topo_core.paths.starts.initial_paths import find_start
from topo_core.paths.state import PathState, Record

__all__ = [
    "Outcome",
    "PathSettings",
    "PathSolution",
    "PathState",
    "advance",
    "finished",
    "init",
    "optimize_path",
    "solution",
]


@dataclass(frozen=True)
class PathSolution:
    """An optimised path.

    Attributes:
        points: [k, d], the best path seen, ends included.
        profile: the losses along it; ``profile.maximum`` is its height.
        outcome: CONVERGED, BUDGET (the height may still fall, see ``evidence``), DIVERGED
            (stopped early; the path is the best finite one).
        evidence: what the outcome rests on, and a sentence that says so.
        history: measurements, oldest first.
        gradient_evaluations: rows whose gradient was evaluated.
    """

    points: Tensor
    profile: Profile
    outcome: Outcome
    evidence: Evidence
    history: tuple[Record, ...]
    gradient_evaluations: int


def solution(objective: Objective, state: PathState, settings: PathSettings) -> PathSolution:
    """The best path so far, measured, with the evidence for or against convergence."""
    found = state.best_profile or measure(objective, state.best, settings)
    outcome, evidence = judge(state, found, settings)
    return PathSolution(
        state.best, found, outcome, evidence, state.history, state.gradient_evaluations
    )


def optimize_path(
    objective: Objective,
    start: Tensor,
    end: Tensor,
    settings: PathSettings | None = None,
    *,
    seed: int = 0,
) -> PathSolution:
    """A low path from ``start`` to ``end`` ([d] each, minima of the objective).

    Args:
        objective: the loss; ``from_function`` makes one of a formula.
        start, end: the two ends; they do not move.
        settings: all defaults when None.
        seed: names the minibatches and all other draws.

    Raises:
        ValueError: for ends that are not finite vectors of one shape and dtype.
    """
    settings = settings or PathSettings()
    if start.ndim != 1 or start.shape != end.shape or start.dtype != end.dtype:
        raise ValueError(
            f"the ends have shapes {tuple(start.shape)} ({start.dtype}) and "
            f"{tuple(end.shape)} ({end.dtype}); give two vectors of one length and dtype."
        )
    first = find_start(objective, start, end, settings, seed)
    state = init(
        objective,
        first.points,
        settings,
        spent=first.gradient_evaluations,
        profile=first.profile,
    )
    total = settings.total_epochs(objective.batches)
    return solution(
        objective, advance(objective, state, settings, seed, until_epoch=total), settings
    )
