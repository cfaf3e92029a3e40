"""The solver of paths: ``begin``, ``advance``, ``is_finished`` and ``solution`` act on states.

Module ``epochs`` has one epoch and module ``steps`` its steps; both take p paths at once. ``advance`` is the
case p = 1.

One path uses only a small part of a GPU, and most of the time of a step passes between kernels. Paths with
equal settings take the same operations, so ``advance_together`` evaluates p paths in every kernel. Paths form
a group if they are at the same epoch and have equal numbers of points and of frozen points. The groups at the
earliest epoch advance first; numbers of points may differ after an insertion; finished paths leave their
group. With ``points_per_step`` every path draws its own points and advances alone.

Advancing paths together and one at a time gives the same results up to rounding, since products over more
rows may be summed in another order. On a CPU the bits of a path must not depend on other paths, so workers
advance paths one after another there.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective
from topo_core.paths.convergence import (
    Evidence,
    Outcome,
    cannot_catch_up,
    has_stopped_moving,
    judge,
    lowest_possible,
    search_is_incomplete,
)
from topo_core.paths.coordinate_units import resample_in
from topo_core.paths.counter_evidence import counter_evidence
from topo_core.paths.displacements import empty_slots
from topo_core.paths.epochs import one_epoch, record_of
from topo_core.paths.polyline import merge_coincident
from topo_core.paths.profiles import Profile, loss_profile
from topo_core.paths.settings import PathSettings, ResolvedSettings
from topo_core.paths.solution import PathSolution
from topo_core.paths.state import PathState
from topo_core.paths.stationarity import peak_force
from topo_core.paths.steps import Norms
from topo_core.paths.verified_pass import VerifiedPass


class PathSolver:
    """The optimisation of paths on one objective.

    Args:
        objective: the loss.
        settings: the settings of all paths; resolved here unless they are a ``ResolvedSettings``.

    Attributes:
        objective: the loss.
        resolved: the settings on this objective.
    """

    def __init__(self, objective: Objective, settings: PathSettings | ResolvedSettings) -> None:
        self.objective = objective
        self.resolved = (
            settings
            if isinstance(settings, ResolvedSettings)
            else settings.resolve(objective.batches, objective.dimension)
        )

    def begin(
        self,
        points: Tensor,
        *,
        spent: int = 0,
        profile: Profile | None = None,
        verified: VerifiedPass | None = None,
        units: Tensor | None = None,
    ) -> PathState:
        """The state before the first step of a path that starts as ``points`` [n, d].

        The two ends never move. Coincident neighbours are merged. If ``points`` has more points than the
        settings allow, it is kept as the best path so far, and a resampled path with fewer points moves.

        Args:
            points: the initial path.
            spent: number of gradients that were evaluated to find ``points``.
            profile: the losses along ``points``, if they have been measured.
            verified: the verification of the highest point of ``points``. If it is given, no step is taken
                (unless the tangent rule does not stop early).
            units: [d], the units of the coordinates (``coordinate_units``). They are not used if the settings
                name an optimiser, whose rates are meant for the given coordinates.

        Raises:
            ValueError: ``points`` is not a finite floating [n, d], n of 2 or more, of the objective's
                dimension.
        """
        _check(self.objective, points)
        path, merged = merge_coincident(points.detach().clone())
        if profile is None or merged:
            profile = self.measure(path)
        longer = verified is None and len(path) > self.resolved.most_points
        units = units if self.resolved.uses_units else None
        moving = resample_in(units, path, self.resolved.most_points) if longer else path
        losses = self.objective.losses(moving).to(path.dtype)[:, None]
        state = PathState(
            points=moving,
            losses=losses,
            slots=empty_slots(self.resolved.optimizer, moving),
            best=path,
            best_maximum=profile.maximum,
            best_epoch=0,
            best_profile=profile,
            chord=float((path[-1] - path[0]).norm()),
            frozen=0,
            epoch=0,
            steps=0,
            batches=self.objective.batches,
            time=0.0,
            gradient_evaluations=spent,
            merged=merged,
            history=(),
            failure=""
            if math.isfinite(profile.maximum)
            else "the loss on the starting path is not finite",
            verified=verified,
            units=units,
        )
        first = record_of(state, profile.maximum, rate=0.0, norms=Norms())
        return replace(state, history=(first,))

    def advance(self, state: PathState, seed: int, *, until_epoch: int) -> PathState:
        """The state at ``until_epoch`` (or at the end of the run, or where it failed).

        Advancing in one call or in several gives the same bits on a CPU.
        """
        return self.advance_together([state], [seed], until_epoch=until_epoch)[0]

    def advance_together(
        self, states: Sequence[PathState], seeds: Sequence[int], *, until_epoch: int
    ) -> list[PathState]:
        """As ``advance``, for several paths.

        Args:
            states: states of p paths of equal dimension, at any epochs.
            seeds: one for each path.
            until_epoch: the epoch at which to stop.
        """
        now = list(states)
        while True:
            going = [
                i
                for i, state in enumerate(now)
                if state.epoch < until_epoch and not self.is_finished(state)
            ]
            if not going:
                return now
            behind = min(now[i].epoch for i in going)
            alone = self.resolved.settings.points_per_step is not None
            for group in _groups(now, [i for i in going if now[i].epoch == behind], alone=alone):
                moved = one_epoch(
                    self.objective,
                    [now[i] for i in group],
                    self.resolved,
                    [seeds[i] for i in group],
                )
                for i, state in zip(group, moved, strict=True):
                    now[i] = state

    def is_finished(self, state: PathState) -> bool:
        """Whether ``advance`` has nothing left to do.

        This is so if the last epoch is done or the run has failed. If the tangent rule stops early, it is
        also so if the path is as low as its higher end, its highest point is a verified pass, it no longer
        moves, or it does not become as low as the route at which it began.
        """
        if state.failure or state.epoch >= self.resolved.epochs:
            return True
        if not self.resolved.rule.method.stops_early:
            return False
        if state.verified is not None or lowest_possible(state):
            return True
        return has_stopped_moving(state, self.resolved) or cannot_catch_up(state, self.resolved)

    def solution(self, state: PathState) -> PathSolution:
        """The best path so far, measured, with the evidence for or against convergence."""
        profile = state.best_profile or self.measure(state.best)
        outcome, evidence = self.judge(state, profile)
        return PathSolution(
            state.best,
            profile,
            outcome,
            evidence,
            state.history,
            state.gradient_evaluations,
            state.verified,
        )

    def judge(self, state: PathState, profile: Profile) -> tuple[Outcome, Evidence]:
        """The outcome of ``state``, whose best path has this ``profile``, and the evidence for it."""
        force = None
        if not state.failure and not lowest_possible(state):
            l2 = self.resolved.settings.l2
            force = peak_force(self.objective, state.best, profile, l2=l2)
        finished = self.is_finished(state)
        outcome, evidence = judge(state, profile, self.resolved, force, finished=finished)
        known = state.verified is not None or lowest_possible(state)
        if known or not evidence.allowed_fall > 0 or outcome is not Outcome.CONVERGED:
            return outcome, evidence
        against = counter_evidence(
            self.objective,
            state.best,
            profile,
            allowed=evidence.allowed_fall,
            l2=self.resolved.settings.l2,
        )
        if against is None:
            if not search_is_incomplete(state, self.resolved):
                return outcome, evidence
            reason = (
                "the height no longer falls, but the search for routes over other minima has not proved "
                "that its highest point is a pass."
            )
            left = evidence.allowed_fall / self.resolved.settings.convergence_tolerance
            return Outcome.BUDGET, replace(evidence, remaining_fall=left, reason=reason)
        return judge(state, profile, self.resolved, force, finished=finished, against=against)

    def measure(self, points: Tensor) -> Profile:
        """The losses along ``points`` [n, d], measured as the settings say."""
        settings = self.resolved.settings
        return loss_profile(
            self.objective, points, heights=settings.heights, tolerance=settings.height_tolerance
        )


def _groups(
    states: Sequence[PathState], members: Sequence[int], *, alone: bool
) -> Iterator[list[int]]:
    """Groups of ``members`` whose tensors have equal shapes; groups of one path each if ``alone``."""
    groups: dict[tuple[torch.Size, int, bool, int], list[int]] = {}
    for i in members:
        state = states[i]
        key = state.points.shape, state.frozen, state.units is None, i if alone else 0
        groups.setdefault(key, []).append(i)
    yield from groups.values()


def _check(objective: Objective, points: Tensor) -> None:
    if points.ndim != 2 or len(points) < 2 or not points.is_floating_point():
        raise ValueError(
            f"the path has shape {tuple(points.shape)} and dtype {points.dtype}; it must be "
            "[points, dimension] with two points or more, of a floating dtype."
        )
    if objective.dimension not in (None, points.shape[1]):
        raise ValueError(
            f"the points have dimension {points.shape[1]} and the objective has "
            f"{objective.dimension}; give points of its dimension."
        )
    if not bool(points.isfinite().all()):
        raise ValueError("the path has values that are not finite; start from finite points.")
