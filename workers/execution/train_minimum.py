"""Tasks that train a minimum, from initial weights, a checkpoint or a dip inside a path, and polish it."""

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
from workers.execution.minimum_records import minimum_record
from workers.execution.progress import TaskFailure
from workers.execution.stationarity import is_polished, judge
from workers.execution.task_run import Site, run_task
from workers.execution.training import TrainingState, begin, train_until
from workers.problems.loaded_problem import Loaded
from workers.storage.schema import MinimumRecord, ResultRecord
from workers.tasks.minimum_tasks import (
    DescendMinimum,
    RestartMinimum,
    SaddleMinimum,
    TrainMinimum,
)
from workers.tasks.results import FailureKind

POLISH_ITERATIONS = 50
"""Iterations of a polish between two points where it can be interrupted: some seconds of work on the largest
problems of `auto`."""


def train_minimum(task: TrainMinimum, site: Site) -> ResultRecord:
    """Train one minimum from initial weights.

    Raises:
        TaskFailure: the loss diverged.
        Interrupted: asked to stop.
    """
    seed = seed_of(task.seed, "minimum", task.index)
    run = TrainingRun(task, site, seed, lambda: site.loaded.initial_point(seed), source="trained")
    return run_task(run, site.progress)


def descend_minimum(task: DescendMinimum, site: Site) -> ResultRecord:
    """Train from a dip inside a path as from initial weights.

    Raises:
        TaskFailure: the loss diverged.
        Damaged: the path cannot be read.
        Interrupted: asked to stop.
    """

    def dip() -> Tensor:
        points = site.store.read_path(task.object_of(task.path))["points"]
        position = torch.tensor([task.position], dtype=torch.float64)
        dip = at_positions(points, arc_positions(points), position)[0]
        return dip.to(site.loaded.evaluation.device)

    seed = seed_of(task.seed, "descent", task.key)
    source = f"dip at {task.position:.4f} of {task.path}"
    return run_task(TrainingRun(task, site, seed, dip, source=source), site.progress)


def saddle_minimum(task: SaddleMinimum, site: Site) -> ResultRecord:
    """Polish the end of a descent from a saddle; the settings of the task ask for no training.

    Raises:
        Damaged: the saddle cannot be read.
        Interrupted: asked to stop.
    """

    def end() -> Tensor:
        ends = site.store.read_saddle(task.object_of(task.saddle))["ends"]
        return ends[task.end].to(site.loaded.evaluation.device, site.loaded.dtype)

    seed = seed_of(task.seed, "below a saddle", task.key)
    source = f"descent {task.end} of saddle {task.saddle}"
    return run_task(TrainingRun(task, site, seed, end, source=source), site.progress)


def restart_minimum(task: RestartMinimum, site: Site) -> ResultRecord:
    """Train from a user's checkpoint whose weights are changed at random.

    Raises:
        TaskFailure: the checkpoint does not fit, or the loss diverged.
        Interrupted: asked to stop.
    """
    seed = seed_of(task.seed, "restart", task.key)

    def start() -> Tensor:
        return changed(site.loaded, checkpoint_point(task, site), task.spread, seed)

    source = f"restart {task.number} with spread {task.spread:g} from {task.location}"
    return run_task(TrainingRun(task, site, seed, start, source=source), site.progress)


def changed(loaded: Loaded, point: Tensor, spread: float, seed: int) -> Tensor:
    """A point [d] with Gaussian noise on every parameter.

    Args:
        loaded: the problem, which knows the tensors of the network.
        point: [d].
        spread: standard deviation of the noise, in root mean squares of the tensor that a parameter
            belongs to; of all parameters where a tensor is zero.
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
    """A minimum in training or, once `polish` is not None, in a polish.

    Every state is a checkpoint.
    """

    training: TrainingState
    polish: PolishState | None = None

    @property
    def number(self) -> int:
        """Grows from checkpoint to checkpoint."""
        polish = self.polish
        return self.training.epoch + (polish.gradients + polish.products if polish else 0)

    def tensors(self) -> dict[str, Tensor]:
        return self.training.tensors() if self.polish is None else self.polish.tensors()

    def scalars(self) -> dict[str, Any]:
        scalars = self.training.scalars()
        return scalars if self.polish is None else {**scalars, "polish": self.polish.scalars()}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> "MinimumState":
        """The state that `tensors()` and `scalars()` came from; a training that ended keeps no slots."""
        if "polish" not in scalars:
            return cls(TrainingState.restore(tensors, scalars))
        polish = PolishState.restore(tensors, scalars["polish"])
        return cls(TrainingState.restore({"point": tensors["start"]}, scalars), polish)


class TrainingRun:
    """The training of one minimum, and the polish after it, between checkpoints.

    Args:
        task: the minimum to train.
        site: the problem, the store and the progress.
        seed: of the order of minibatches.
        start: makes the initial point [d].
        source: where the initial point comes from, for the record.
    """

    def __init__(
        self,
        task: TrainMinimum | DescendMinimum | SaddleMinimum | RestartMinimum,
        site: Site,
        seed: int,
        start: Callable[[], Tensor],
        *,
        source: str,
    ) -> None:
        self.key = task.key
        self._task, self._settings, self._site = task, task.settings, site
        self._loaded, self._store = site.loaded, site.store
        self._seed, self._start, self._source = seed, start, source
        self._objective = site.loaded.objective(task.settings.batch_size)
        self._polishes = is_polished(task.settings, site.loaded)
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
        polish = state.polish or init_polish(self._objective, state.training.point[0].double())
        polish = advance_polish(
            self._objective, polish, self._polish, iterations=POLISH_ITERATIONS, seed=self._seed
        )
        return replace(state, polish=polish)

    def keep(self, state: MinimumState, *, due: bool) -> None:
        if due and not self.is_finished(state):
            self._store.publish_checkpoint(self.key, state.number, state.tensors(), state.scalars())

    def share(self, state: MinimumState) -> float:
        """The share of the epochs; a polish, whose length is unknown, counts as the last hundredth."""
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
                    self._objective, polish, self._polish, seed=self._seed
                )
                point = polish.point.to(point.dtype)
            else:
                critical = judge(self._loaded, point, seed=self._seed)
            record = minimum_record(
                self._task,
                self._site,
                point.to(self._loaded.dtype),
                source=self._source,
                stop_reason=training.stop_reason,
                history=training.history,
                critical=critical,
                polished=polish is not None,
            )
            if math.isfinite(record.loss):
                return record
        self._store.drop_checkpoints(self.key)
        raise TaskFailure(
            FailureKind.DIVERGED,
            f"the training loss became infinite in epoch {training.epoch}: "
            "lower minima.optimizer.lr",
        )
