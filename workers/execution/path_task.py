"""Run one `OptimizePath`: from its last checkpoint to a record and a path in the store."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from topo_core.objectives.network_loss import ModuleObjective
from topo_core.paths.convergence import Outcome
from topo_core.paths.profiles import loss_profile
from topo_core.paths.solution import PathSolution
from topo_core.paths.solver import PathSolver
from topo_core.paths.starts.trained_curves import CurveState
from topo_core.paths.state import PathState, Record
from topo_core.random_streams import seed_of
from workers.execution.first_path import FirstPath, first_path, settings_of
from workers.execution.progress import TaskFailure, Telling
from workers.problems.loaded_problem import Loaded
from workers.storage.run_store import Store
from workers.storage.schema import PairRecord
from workers.tasks.results import FailureKind
from workers.tasks.tasks import OptimizePath


def optimize_path_task(
    task: OptimizePath, loaded: Loaded, store: Store, telling: Telling, *, keep_points: bool = True
) -> PairRecord:
    """Optimise the path between two minima of the store.

    A checkpoint is published every `checkpoint_every` epochs; a task that starts again goes on from
    the newest readable one and gives the same bits as one that was never interrupted.

    Raises:
        TaskFailure: the loss diverged, or `settings.start` is not possible here.
        Damaged: a minimum that the path starts from cannot be read.
        Interrupted: asked to stop.
    """
    run = PathRun(task, loaded, store)
    state = run.resumed()
    if not isinstance(state, PathState):

        def keep(stop: Mapping[int, CurveState]) -> None:
            for curve in stop.values():
                run.keep_curve(curve)
                telling.share(task.key, run.share(curve))

        state = run.begun(first_path(task, loaded, run.solver, store, run.seed, state, keep))
    while not run.finished(state):
        since = state.epoch
        state = run.solver.advance(state, run.seed, until_epoch=run.next_stop(since))
        telling.path_epochs += state.epoch - since
        run.keep(state)
        telling.share(task.key, run.share(state))
    return run.ended(state, keep_points=keep_points)


class PathRun:
    """What the path of one task does between its steps: where it begins, stops, is kept and ends.

    Attributes:
        task: what is asked for.
        objective: the loss.
        solver: the method, on this loss.
        seed: of the draws.
    """

    def __init__(self, task: OptimizePath, loaded: Loaded, store: Store) -> None:
        self.task, self._loaded, self._store = task, loaded, store
        self.objective: ModuleObjective = loaded.objective(task.settings.batch_size)
        # Of the lineage, not of the key: a path with more epochs begins with the same draws.
        self.seed = seed_of(task.seed, "path", task.lineage)
        self.solver = PathSolver(self.objective, settings_of(task))
        self._total = self.solver.resolved.epochs
        self._fork = self.solver.resolved.depends_on_epochs_from

    def resumed(self) -> PathState | CurveState | None:
        """The state to go on from: of this task, of its first path, or of the same path with fewer epochs."""
        task, store = self.task, self._store
        checkpoint = store.latest_checkpoint(task.key) or store.latest_checkpoint(
            task.lineage, at_most=self._fork
        )
        if checkpoint is None:
            return None
        kind = CurveState if "passes" in checkpoint.scalars else PathState
        return kind.restore(self._loaded.on_device(checkpoint.tensors), checkpoint.scalars)

    def begun(self, first: FirstPath) -> PathState:
        """The state before the first step."""
        return self.solver.begin(
            first.points, spent=first.gradient_evaluations, profile=first.profile
        )

    def finished(self, state: PathState) -> bool:
        return self.solver.is_finished(state)

    def next_stop(self, epoch: int) -> int:
        """The epoch after `epoch` at whose end the state is kept."""
        every = self.task.settings.checkpoint_every
        until = (epoch // every + 1) * every
        return min(until, self._fork) if self.task.goes_on and epoch < self._fork else until

    def keep(self, state: PathState) -> None:
        """Publish the state, so that this task, or a longer one, can go on from it."""
        task, store = self.task, self._store
        if task.goes_on and state.epoch == self._fork and not state.failure:
            self._keep_for_longer(state)
        if not self.finished(state):
            store.publish_checkpoint(task.key, state.epoch, state.tensors(), state.scalars())

    def _keep_for_longer(self, state: PathState) -> None:
        self._store.publish_checkpoint(
            self.task.lineage, state.epoch, state.tensors(), state.scalars()
        )

    def keep_curve(self, curve: CurveState) -> None:
        """Publish a first path in the making, so that this task can go on from it."""
        self._store.publish_checkpoint(
            self.task.key, 0, curve.tensors(), curve.scalars(), passes=curve.passes
        )

    def share(self, state: PathState | CurveState) -> float:
        """What is done of the whole, from 0 to 1, in gradients."""
        moving = self.task.settings.points - 2
        curve = self.solver.resolved.curve_passes / moving
        done = curve + state.epoch if isinstance(state, PathState) else state.passes / moving
        return done / (curve + self._total)

    def ended(self, state: PathState, *, keep_points: bool) -> PairRecord:
        """Publish the path; its record.

        Raises:
            TaskFailure: the loss diverged.
        """
        task, store = self.task, self._store
        found = self.solver.solution(state)
        if found.outcome is Outcome.DIVERGED:
            store.drop_checkpoints(task.key)
            raise TaskFailure(FailureKind.DIVERGED, found.evidence.reason)
        if task.goes_on and state.epoch < self._fork:  # done early: a longer run is, too
            self._keep_for_longer(state)
        name = None
        if keep_points:
            name = store.publish_path(task.key, _tensors(found), a=task.a, b=task.b)
        grid = loss_profile(self.objective, found.points, heights="paper")
        return _record(task, found, grid.maximum, self._total, name)


def _tensors(found: PathSolution) -> dict[str, Tensor]:
    """The points, and where they are known the norms of both parts of the gradient at each of them.

    `norm_epochs` [m, 1] are the epochs after which they were measured; `normal_norms` and
    `tangent_norms` [m, n - 2] have a column a moving point, with NaN where there were fewer points.
    """
    rows = [row for row in found.history if row.normal_norms]
    if not rows:
        return {"points": found.points}
    return {
        "points": found.points,
        "norm_epochs": torch.tensor([[row.epoch] for row in rows]),
        "normal_norms": _padded([row.normal_norms for row in rows]),
        "tangent_norms": _padded([row.tangent_norms for row in rows]),
    }


def _padded(rows: list[tuple[float, ...]]) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[math.nan] * (width - len(row))] for row in rows])


def _record(
    task: OptimizePath, found: PathSolution, grid_height: float, epochs: int, name: str | None
) -> PairRecord:
    """The record of a path. Its ends are part of the profile, so a height is never below a birth."""
    profile, evidence = found.profile, found.evidence
    height = profile.maximum
    dips = profile.dips
    return PairRecord(
        key=task.key,
        i=task.i,
        j=task.j,
        a=task.a,
        b=task.b,
        height=height,
        height_high=height + profile.bracket,
        grid_height=grid_height,
        argmax_position=float(profile.positions[profile.argmax]),
        positions=profile.positions.tolist(),
        losses=profile.losses.tolist(),
        outcome=found.outcome.value,
        reason=evidence.reason,
        remaining_fall=evidence.remaining_fall,
        first_passage_a=profile.first_passage(),
        first_passage_b=profile.first_passage(from_end=True),
        dips_a=dips[0],
        dips_b=dips[1],
        epochs=epochs,
        points=len(found.points),
        gradient_evaluations=found.gradient_evaluations,
        history=[_history_row(row) for row in found.history],
        object=name,
        quotient=task.settings.start == "aligned",
    )


def _history_row(row: Record) -> dict[str, Any]:
    values = asdict(row)
    for name in ("time", "cut", "normal_norms", "tangent_norms"):  # the norms are beside the points
        values.pop(name)
    return values
