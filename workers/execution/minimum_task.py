"""Train, train on or import one minimum: from its last checkpoint to a record and a state dict."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from topo_core.paths.polyline import arc_positions, at_positions
from topo_core.random_streams import seed_of
from workers.execution.progress import TaskFailure, Telling
from workers.execution.training import TrainingState, begin, train_until
from workers.problems.checkpoints import check_fixed_state, check_state_dict, read_state_dict
from workers.problems.loaded_problem import Loaded
from workers.problems.user_code import BadReference
from workers.storage.run_store import Store
from workers.storage.schema import MinimumRecord
from workers.tasks.results import FailureKind
from workers.tasks.tasks import DescendMinimum, ImportMinimum, Minimum, TrainMinimum


def train_minimum_task(
    task: TrainMinimum, loaded: Loaded, store: Store, telling: Telling
) -> MinimumRecord:
    """Train one minimum.

    Raises:
        TaskFailure: the loss diverged.
        Interrupted: asked to stop.
    """
    seed = seed_of(task.seed, "minimum", task.index)
    return _trained(
        task, loaded, store, telling, seed, lambda: loaded.initial_point(seed), source="trained"
    )


def descend_minimum_task(
    task: DescendMinimum, loaded: Loaded, store: Store, telling: Telling
) -> MinimumRecord:
    """Train on from a dip inside a path: as from initial weights.

    Raises:
        TaskFailure: the loss diverged.
        Damaged: the path cannot be read.
        Interrupted: asked to stop.
    """

    def dip() -> Tensor:
        points = store.read_path(task.path)["points"]
        place = torch.tensor([task.position], dtype=torch.float64)
        return at_positions(points, arc_positions(points), place)[0].to(loaded.evaluation.device)

    seed = seed_of(task.seed, "descent", task.key)
    return _trained(
        task, loaded, store, telling, seed, dip, source=f"dip at {task.position:.4f} of {task.path}"
    )


def _trained(
    task: TrainMinimum | DescendMinimum,
    loaded: Loaded,
    store: Store,
    telling: Telling,
    seed: int,
    start: Callable[[], Tensor],
    *,
    source: str,
) -> MinimumRecord:
    """Train from the last checkpoint, or from where `start` says."""
    settings = task.settings
    objective = loaded.objective(settings.batch_size)
    checkpoint = store.latest_checkpoint(task.key)
    state = (
        TrainingState.restore(loaded.on_device(checkpoint.tensors), checkpoint.scalars)
        if checkpoint
        else begin(settings, start())
    )
    while not state.stop_reason:
        until = (state.epoch // settings.checkpoint_every + 1) * settings.checkpoint_every
        state = train_until(objective, state, settings, seed, epoch=until)
        if not state.stop_reason:
            store.publish_checkpoint(task.key, state.epoch, state.tensors(), state.scalars())
        telling.share(task.key, state.epoch / settings.epochs)
    point = state.point[0]
    if state.stop_reason != "diverged":
        record = _record(task, loaded, store, point, source=source, epochs=state.epoch, state=state)
        if math.isfinite(record.loss):
            return record
    store.drop_checkpoints(task.key)
    raise TaskFailure(
        FailureKind.DIVERGED,
        f"the training loss became infinite in epoch {state.epoch}: lower minima.optimizer.lr",
    )


def import_minimum_task(task: ImportMinimum, loaded: Loaded, store: Store) -> MinimumRecord:
    """Take a minimum from a user's checkpoint.

    Raises:
        TaskFailure: the file is not what it was when the run was planned, or does not fit.
    """
    try:
        state = read_state_dict(task.location)
        check_state_dict(task.location, state, loaded.user_module)
        fixed = task.problem.fixed
        if fixed is not None:
            check_fixed_state(
                task.location, state, loaded.user_module, fixed.digest, fixed.location
            )
    except BadReference as error:
        raise TaskFailure(FailureKind.BAD_INPUT, str(error)) from None
    return _record(task, loaded, store, loaded.flat(state), source=task.location, epochs=0)


def _record(
    task: Minimum,
    loaded: Loaded,
    store: Store,
    point: Tensor,
    *,
    source: str,
    epochs: int,
    state: TrainingState | None = None,
) -> MinimumRecord:
    measured = loaded.measure(point)
    return MinimumRecord(
        key=task.key,
        index=task.index,
        source=source,
        loss=measured.loss,
        test_loss=measured.test_loss,
        accuracy=measured.accuracy,
        test_accuracy=measured.test_accuracy,
        gradient_norm=measured.gradient_norm,
        epochs=epochs,
        stop_reason=state.stop_reason if state else "imported",
        history=[
            {"epoch": epoch, "loss": loss, "rate": rate}
            for epoch, loss, rate in (state.history if state else ())
        ],
        object=store.publish_minimum(task.key, loaded.state_dict(point)),
    )
