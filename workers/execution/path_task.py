"""The task that optimises one path."""

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from topo_core.objectives.network_loss import ModuleObjective
from topo_core.paths.convergence import Outcome
from topo_core.paths.polyline import arc_positions
from topo_core.paths.profiles import loss_profile
from topo_core.paths.solution import PathSolution
from topo_core.paths.solver import PathSolver
from topo_core.paths.starts.protocol import Start
from topo_core.paths.starts.trained_curves import CurveState
from topo_core.paths.state import EpochRecord, PathState
from topo_core.random_streams import seed_of
from workers.execution.measured_paths import measures_of
from workers.execution.path_starts import initial_path_of, settings_of
from workers.execution.progress import TaskFailure
from workers.execution.task_run import TaskContext, run_task
from workers.problems.loaded_problem import LoadedProblem
from workers.storage.schema import PairRecord, ResultRecord
from workers.tasks.path_tasks import OptimizePath
from workers.tasks.results import FailureKind
from workers.tasks.specs import OBJECTIVE


def optimize_one_path(task: OptimizePath, context: TaskContext) -> ResultRecord:
    """Optimise the path between two minima of the store.

    Raises:
        TaskFailure: the loss diverged, or `settings.start` is not possible for this problem.
        Damaged: a minimum, or a path that the initial path is made of, cannot be read.
        Interrupted: the worker was asked to stop; the last checkpoint is published.
    """
    return run_task(PathRun(task, context), context.progress)


class PathRun:
    """The optimisation of one path, with its checkpoints; see `TaskRun`.

    If the start is a trained curve, the state is a `CurveState` until the curve is trained and a `PathState`
    afterwards.

    Args:
        task: the path to optimise.
        context: the problem, the store and the progress.

    Attributes:
        objective: the loss.
        solver: the path solver on this loss.
        seed: of the random numbers.
    """

    def __init__(self, task: OptimizePath, context: TaskContext) -> None:
        self.task, self.context, self.key = task, context, task.key
        self.objective: ModuleObjective = context.loaded.objective(task.settings.batch_size)
        # From the lineage, not from the key: a path with more epochs begins with the same random numbers.
        self.seed = seed_of(task.seed, "path", task.lineage)
        self.solver = PathSolver(self.objective, settings_of(task))
        self._total = self.solver.resolved.epochs
        self._fork = self.solver.resolved.depends_on_epochs_from

    def begin(self) -> PathState:
        """The state of the newest readable checkpoint, or the state before the first step."""
        state = self.resumed()
        if isinstance(state, PathState):
            return state

        def keep(stop: Mapping[int, CurveState]) -> None:
            for curve in stop.values():
                if self.context.progress.checkpoint_is_due():
                    self.keep_curve(curve)
                self.context.progress.share(self.key, self.share(curve))

        return self.begun(
            initial_path_of(self.task, self.context, self.solver, self.seed, state, keep)
        )

    def resumed(self) -> PathState | CurveState | None:
        """The state of the newest readable checkpoint; None if there is none.

        It is a checkpoint of this task (its path or its initial curve), else one of the same path optimised
        for fewer epochs.
        """
        task, store = self.task, self.context.store
        checkpoint = store.latest_checkpoint(task.key) or store.latest_checkpoint(
            task.lineage, at_most=self._fork
        )
        if checkpoint is None:
            return None
        kind = CurveState if "passes" in checkpoint.scalars else PathState
        return kind.restore(self.context.loaded.on_device(checkpoint.tensors), checkpoint.scalars)

    def begun(self, first: Start) -> PathState:
        """The state before the first step, from an initial path."""
        return self.solver.begin(
            first.points,
            spent=first.gradient_evaluations,
            profile=first.profile,
            verified=first.verified,
            units=first.units,
        )

    def is_finished(self, state: PathState) -> bool:
        return self.solver.is_finished(state)

    def advance(self, state: PathState) -> PathState:
        """The state one epoch later."""
        advanced = self.solver.advance(state, self.seed, until_epoch=state.epoch + 1)
        self.context.progress.path_epochs += advanced.epoch - state.epoch
        return advanced

    def keep(self, state: PathState, *, due: bool) -> None:
        """Publish the state if a checkpoint is due, or if a task with more epochs can continue from it."""
        if self.task.goes_on and state.epoch == self._fork and not state.failure:
            self._keep_for_longer(state)
        if due and not self.is_finished(state):
            self.context.store.publish_checkpoint(
                self.key, state.epoch, state.tensors(), state.scalars()
            )

    def _keep_for_longer(self, state: PathState) -> None:
        self.context.store.publish_checkpoint(
            self.task.lineage, state.epoch, state.tensors(), state.scalars()
        )

    def keep_curve(self, curve: CurveState) -> None:
        """Publish a checkpoint of a curve in training."""
        self.context.store.publish_checkpoint(
            self.key, 0, curve.tensors(), curve.scalars(), passes=curve.passes
        )

    def share(self, state: PathState | CurveState) -> float:
        """The share of the task that is done, from 0 to 1, measured in gradients."""
        moving = self.task.settings.points - 2
        curve = self.solver.resolved.curve_passes / moving
        done = curve + state.epoch if isinstance(state, PathState) else state.passes / moving
        return done / (curve + self._total)

    def end(self, state: PathState) -> PairRecord:
        """Publish the points of the path if they are kept, and return its record.

        Raises:
            TaskFailure: the loss diverged.
        """
        task, store = self.task, self.context.store
        path = self.solver.solution(state)
        if path.outcome is Outcome.DIVERGED:
            store.drop_checkpoints(task.key)
            raise TaskFailure(FailureKind.DIVERGED, path.evidence.reason)
        # The path converged before the epochs differ, so a task with more epochs would stop here as well.
        if task.goes_on and state.epoch < self._fork:
            self._keep_for_longer(state)
        name = None
        if self.context.keep_points:
            tensors = {**_tensors(path), **_saddle_tensors(task, path)}
            name = store.publish_path(task.key, tensors, a=task.a, b=task.b)
        grid = loss_profile(self.objective, path.points, heights="paper")
        record = _record(task, path, grid.maximum, self._total, name)
        return replace(record, **_test_losses(self.context.loaded, path.points))


def _test_losses(loaded: LoadedProblem, points: Tensor) -> dict[str, Any]:
    """The record's columns of the test loss at the points [k, d]; none for a loss of the parameters alone."""
    if loaded.problem.data.name.startswith(OBJECTIVE):
        return {}
    data = loaded.data
    objective = loaded.objective(len(data.train_inputs))
    losses, _ = objective.measure(points, data.test_inputs, data.test_targets)
    positions = arc_positions(points)
    return {"test_positions": positions.tolist(), "test_losses": losses.tolist()}


def _tensors(path: PathSolution) -> dict[str, Tensor]:
    """The tensors of a path's object: its points [k, d], and the norms of gradients where they were measured.

    `norm_epochs` [m, 1] are the epochs after which norms were measured. `normal_norms` and `tangent_norms`
    [m, k - 2] are the norms of the components of the gradient orthogonal and tangent to the path, with one
    column for each interior point; NaN where the path had fewer points at that epoch.
    """
    rows = [row for row in path.history if row.normal_norms]
    if not rows:
        return {"points": path.points}
    return {
        "points": path.points,
        "norm_epochs": torch.tensor([[row.epoch] for row in rows]),
        "normal_norms": _padded([row.normal_norms for row in rows]),
        "tangent_norms": _padded([row.tangent_norms for row in rows]),
    }


def _saddle_tensors(task: OptimizePath, path: PathSolution) -> dict[str, Tensor]:
    """The saddle at the highest point of a moved path, `saddles` [1, d], as in the object of a saddle task;
    empty if the path has no verified saddle."""
    if task.settings.start != "moved" or path.verified is None:
        return {}
    positions = arc_positions(path.points)
    top = float(path.profile.positions[path.profile.argmax])
    nearest = int((positions - top).abs().argmin())
    return {"saddles": path.points[nearest][None]}


def _padded(rows: list[tuple[float, ...]]) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[math.nan] * (width - len(row))] for row in rows])


def _record(
    task: OptimizePath, path: PathSolution, grid_height: float, epochs: int, name: str | None
) -> PairRecord:
    evidence = path.evidence
    return PairRecord(
        key=task.key,
        i=task.i,
        j=task.j,
        a=task.a,
        b=task.b,
        **measures_of(path.profile, path.points),
        grid_height=grid_height,
        outcome=path.outcome.value,
        reason=evidence.reason,
        remaining_fall=evidence.remaining_fall,
        epochs=epochs,
        gradient_evaluations=path.gradient_evaluations,
        history=[_history_row(row) for row in path.history],
        object=name,
        quotient=task.settings.start == "aligned",
    )


def _history_row(row: EpochRecord) -> dict[str, Any]:
    values = asdict(row)
    # The norms are stored with the points (`_tensors`); the others are not part of the schema.
    for name in ("time", "cut", "normal_norms", "tangent_norms"):
        values.pop(name)
    return values
