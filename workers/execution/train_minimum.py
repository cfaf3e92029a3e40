"""Tasks that train a minimum and polish it.

They differ in the initial point: initial weights, a checkpoint with random noise, a dip inside a path, or the
end of a descent from a saddle.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from topo_core.critical_points.classification import ClassifySettings
from topo_core.critical_points.minima import advance_polish, init_polish, polish_result
from topo_core.critical_points.polish_state import PolishSettings, PolishState
from topo_core.critical_points.verdicts import CriticalPoint
from topo_core.paths.polyline import arc_positions, at_positions
from topo_core.random_streams import generator, seed_of
from workers.execution.import_minimum import checkpoint_point
from workers.execution.interruptible_loss import InterruptibleLoss
from workers.execution.minimum_records import minimum_record
from workers.execution.progress import TaskFailure
from workers.execution.stationarity import is_polished, judge, loss_tangents
from workers.execution.task_run import TaskContext, run_task
from workers.execution.training import TrainingState, begin, train_until
from workers.problems.loaded_problem import LoadedProblem
from workers.storage.schema import MinimumRecord, ResultRecord
from workers.tasks.minimum_tasks import (
    DescendMinimum,
    RestartMinimum,
    SaddleMinimum,
    TrainMinimum,
)
from workers.tasks.results import FailureKind

POLISH_ITERATIONS = 50
"""Iterations of L-BFGS in one step, between two checkpoints: some seconds of work on the largest problems
that `polish: auto` polishes. An iteration of Newton's method takes hundreds of products and is a step of its
own."""


def train_minimum(task: TrainMinimum, context: TaskContext) -> ResultRecord:
    """Train one minimum from initial weights.

    Raises:
        TaskFailure: the loss diverged.
        Interrupted: the worker was asked to stop; the last checkpoint is published.
    """
    seed = seed_of(task.seed, "minimum", task.index)
    run = TrainingRun(
        task, context, seed, lambda: context.loaded.initial_point(seed), source="trained"
    )
    return run_task(run, context.progress)


def descend_minimum(task: DescendMinimum, context: TaskContext) -> ResultRecord:
    """Train one minimum from a dip inside a path.

    Raises:
        TaskFailure: the loss diverged.
        Damaged: the path cannot be read.
        Interrupted: the worker was asked to stop; the last checkpoint is published.
    """

    def dip() -> Tensor:
        points = context.store.read_path(task.object_of(task.path))["points"]
        position = torch.tensor([task.position], dtype=torch.float64)
        dip = at_positions(points, arc_positions(points), position)[0]
        return dip.to(context.loaded.evaluation.device)

    seed = seed_of(task.seed, "descent", task.key)
    source = f"dip at {task.position:.4f} of {task.path}"
    return run_task(TrainingRun(task, context, seed, dip, source=source), context.progress)


def saddle_minimum(task: SaddleMinimum, context: TaskContext) -> ResultRecord:
    """Polish the end of a descent from a saddle. The settings of the task have `epochs` 0, so nothing is
    trained.

    Raises:
        TaskFailure: the loss at the end is not finite.
        Damaged: the saddle cannot be read.
        Interrupted: the worker was asked to stop; the last checkpoint is published.
    """

    def end() -> Tensor:
        ends = context.store.read_saddle(task.object_of(task.saddle))["ends"]
        return ends[task.end].to(context.loaded.evaluation.device, context.loaded.dtype)

    seed = seed_of(task.seed, "below a saddle", task.key)
    source = f"descent {task.end} of saddle {task.saddle}"
    return run_task(TrainingRun(task, context, seed, end, source=source), context.progress)


def restart_minimum(task: RestartMinimum, context: TaskContext) -> ResultRecord:
    """Train from a user's checkpoint after random noise was added to its weights.

    Raises:
        TaskFailure: the checkpoint cannot be read or does not fit the network, or the loss diverged.
        Interrupted: the worker was asked to stop; the last checkpoint is published.
    """
    seed = seed_of(task.seed, "restart", task.key)

    def start() -> Tensor:
        return with_noise(context.loaded, checkpoint_point(task, context), task.spread, seed)

    source = f"restart {task.number} with spread {task.spread:g} from {task.location}"
    if task.number < 0:
        source = f"polished from {task.location}"
    return run_task(TrainingRun(task, context, seed, start, source=source), context.progress)


def with_noise(loaded: LoadedProblem, point: Tensor, spread: float, seed: int) -> Tensor:
    """A point [d] with Gaussian noise added to every parameter.

    Args:
        loaded: the problem, whose network defines which parameters form a tensor.
        point: [d].
        spread: standard deviation of the noise, relative to the root mean square of the tensor that a
            parameter belongs to; for a tensor of zeros, relative to the root mean square of all parameters.
        seed: of the noise.
    """
    if spread == 0:
        return point
    overall = float(point.double().square().mean().sqrt())
    scales = {
        name: torch.full_like(tensor, float(tensor.double().square().mean().sqrt()) or overall)
        for name, tensor in loaded.state_dict(point).items()
    }
    noise = torch.randn(point.shape, generator=generator(seed), dtype=torch.float64).to(point)
    return point + spread * noise * loaded.flat(scales).to(point)


@dataclass(frozen=True)
class MinimumState:
    """The state of a minimum: in training while `polish` is None, in the polish afterwards.

    Every state can be stored as a checkpoint.
    """

    training: TrainingState
    polish: PolishState | None = None

    @property
    def number(self) -> int:
        """A number that increases with every step, for the name of a checkpoint: epochs, gradients and
        products."""
        polish = self.polish
        return self.training.epoch + (polish.gradients + polish.products if polish else 0)

    def tensors(self) -> dict[str, Tensor]:
        return self.training.tensors() if self.polish is None else self.polish.tensors()

    def scalars(self) -> dict[str, Any]:
        scalars = self.training.scalars()
        return scalars if self.polish is None else {**scalars, "polish": self.polish.scalars()}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> "MinimumState":
        """The state from its `tensors()` and `scalars()`; in the polish, without the optimiser's slots."""
        if "polish" not in scalars:
            return cls(TrainingState.restore(tensors, scalars))
        polish = PolishState.restore(tensors, scalars["polish"])
        return cls(TrainingState.restore({"point": tensors["start"]}, scalars), polish)


class TrainingRun:
    """The training of one minimum and its polish, with their checkpoints; see `TaskRun`.

    Args:
        task: the minimum to train.
        context: the problem, the store and the progress.
        seed: of the order of minibatches, and of the random directions of the polish.
        start: returns the initial point [d]; not called if there is a checkpoint.
        source: where the initial point comes from, for the record.
    """

    def __init__(
        self,
        task: TrainMinimum | DescendMinimum | SaddleMinimum | RestartMinimum,
        context: TaskContext,
        seed: int,
        start: Callable[[], Tensor],
        *,
        source: str,
    ) -> None:
        self.key = task.key
        self._task, self._settings, self._context = task, task.settings, context
        self._loaded, self._store = context.loaded, context.store
        self._seed, self._start, self._source = seed, start, source
        self._objective = context.loaded.objective(task.settings.batch_size)
        self._interruptible = InterruptibleLoss(self._objective, context.progress)
        self._symmetries = loss_tangents(context.loaded, self._objective)
        self._polishes = is_polished(task.settings, context.loaded)
        self._polish = PolishSettings(
            classify=ClassifySettings(tolerance=task.settings.gradient_tolerance)
        )

    def begin(self) -> MinimumState:
        checkpoint = self._store.latest_checkpoint(self.key)
        if checkpoint is None:
            return MinimumState(begin(self._settings, self._start()))
        tensors = self._loaded.on_device(checkpoint.tensors)
        return MinimumState.restore(tensors, checkpoint.scalars)

    def is_finished(self, state: MinimumState) -> bool:
        if not state.training.stop_reason:
            return False
        if not self._polishes or state.training.stop_reason == "diverged":
            return True
        return state.polish is not None and state.polish.done

    def advance(self, state: MinimumState) -> MinimumState:
        if not state.training.stop_reason:
            until = state.training.epoch + 1
            return MinimumState(
                train_until(
                    self._objective, state.training, self._settings, self._seed, epoch=until
                )
            )
        trained = self._loaded.exact(state.training.point[0])
        polish = state.polish or init_polish(self._objective, trained)
        polish = advance_polish(
            self._interruptible,
            polish,
            self._polish,
            iterations=1 if polish.phase == "newton" else POLISH_ITERATIONS,
            symmetries=self._symmetries,
            seed=self._seed,
        )
        return replace(state, polish=polish)

    def keep(self, state: MinimumState, *, due: bool) -> None:
        if due and not self.is_finished(state):
            self._store.publish_checkpoint(self.key, state.number, state.tensors(), state.scalars())

    def share(self, state: MinimumState) -> float:
        """The share of the epochs that are done. A polish counts as the last hundredth: its length is
        unknown."""
        trained = state.training.epoch / max(1, self._settings.epochs)
        if not self._polishes:
            return trained
        polish = state.polish
        spent = polish.gradients + polish.products if polish else 0
        return 0.99 * (1.0 if state.training.stop_reason else trained) + 0.01 * spent / (
            spent + 1000
        )

    def end(self, state: MinimumState) -> MinimumRecord:
        training, polish = state.training, state.polish
        if training.stop_reason != "diverged":
            point = training.point[0]
            if polish is not None:
                critical: CriticalPoint | None = polish_result(
                    self._objective,
                    polish,
                    self._polish,
                    symmetries=self._symmetries,
                    seed=self._seed,
                )
                point = polish.point.to(point.dtype)
            else:
                critical = judge(self._loaded, point, seed=self._seed)
            record = minimum_record(
                self._task,
                self._context,
                point.to(self._loaded.dtype),
                source=self._source,
                stop_reason=training.stop_reason,
                history=training.history,
                critical=critical,
                polished=polish is not None,
            )
            if math.isfinite(record.loss):
                gradients = training.epoch * self._objective.batches
                return replace(record, training_gradients=gradients)
        self._store.drop_checkpoints(self.key)
        raise TaskFailure(
            FailureKind.DIVERGED,
            f"the training loss became infinite in epoch {training.epoch}: "
            "lower minima.optimizer.lr",
        )
