"""Tasks that train a minimum, from initial weights or from a dip inside a path."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from topo_core.paths.polyline import arc_positions, at_positions
from topo_core.random_streams import seed_of
from workers.execution.minimum_records import minimum_record
from workers.execution.progress import TaskFailure
from workers.execution.task_run import Site, carry_out
from workers.execution.training import TrainingState, begin, train_until
from workers.storage.schema import MinimumRecord, ResultRecord
from workers.tasks.results import FailureKind
from workers.tasks.tasks import DescendMinimum, TrainMinimum


def train_minimum(task: TrainMinimum, site: Site) -> ResultRecord:
    """Train one minimum from initial weights.

    Raises:
        TaskFailure: the loss diverged.
        Interrupted: asked to stop.
    """
    seed = seed_of(task.seed, "minimum", task.index)
    run = TrainingRun(task, site, seed, lambda: site.loaded.initial_point(seed), source="trained")
    return carry_out(run, site.progress)


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
    return carry_out(TrainingRun(task, site, seed, dip, source=source), site.progress)


class TrainingRun:
    """The training of one minimum between checkpoints.

    Args:
        task: what is asked for.
        site: what it is carried out with.
        seed: of the order of minibatches.
        start: makes the initial point [d].
        source: where the initial point comes from, for the record.
    """

    def __init__(
        self,
        task: TrainMinimum | DescendMinimum,
        site: Site,
        seed: int,
        start: Callable[[], Tensor],
        *,
        source: str,
    ) -> None:
        self.key = task.key
        self._task, self._settings = task, task.settings
        self._loaded, self._store = site.loaded, site.store
        self._seed, self._start, self._source = seed, start, source
        self._objective = site.loaded.objective(task.settings.batch_size)

    def begin(self) -> TrainingState:
        checkpoint = self._store.latest_checkpoint(self.key)
        if checkpoint is None:
            return begin(self._settings, self._start())
        tensors = self._loaded.on_device(checkpoint.tensors)
        return TrainingState.restore(tensors, checkpoint.scalars)

    def is_finished(self, state: TrainingState) -> bool:
        return bool(state.stop_reason)

    def advance(self, state: TrainingState) -> TrainingState:
        every = self._settings.checkpoint_every
        until = (state.epoch // every + 1) * every
        return train_until(self._objective, state, self._settings, self._seed, epoch=until)

    def keep(self, state: TrainingState) -> None:
        if not self.is_finished(state):
            self._store.publish_checkpoint(self.key, state.epoch, state.tensors(), state.scalars())

    def share(self, state: TrainingState) -> float:
        return state.epoch / self._settings.epochs

    def end(self, state: TrainingState) -> MinimumRecord:
        if state.stop_reason != "diverged":
            record = minimum_record(
                self._task,
                self._loaded,
                self._store,
                state.point[0],
                source=self._source,
                stop_reason=state.stop_reason,
                history=state.history,
            )
            if math.isfinite(record.loss):
                return record
        self._store.drop_checkpoints(self.key)
        raise TaskFailure(
            FailureKind.DIVERGED,
            f"the training loss became infinite in epoch {state.epoch}: lower minima.optimizer.lr",
        )
