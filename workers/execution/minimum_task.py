"""Train, train on or import one minimum: from its last checkpoint to a record and a state dict."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from topo_core.paths.polyline import arc_positions, at_positions
from topo_core.random_streams import seed_of
from workers.execution.progress import TaskFailure, Telling
from workers.execution.training import TrainingState, begin, train_until
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
        check_state_dict(task.location, state, loaded)
    except BadReference as error:
        raise TaskFailure(FailureKind.BAD_INPUT, str(error)) from None
    return _record(task, loaded, store, loaded.flat(state), source=task.location, epochs=0)


def read_state_dict(location: str) -> Mapping[str, Tensor]:
    """A state dict from `.safetensors`, or from a `.pt` file without running what it holds.

    Raises:
        BadReference: not readable, or no state dict.
    """
    path = Path(location)
    try:
        if path.suffix == ".safetensors":
            state: dict[str, Tensor] = safetensors.torch.load_file(path)
            return state
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BadReference(
            f"minima.from names {location}, which cannot be read ({error.strerror or error})"
        ) from None
    except (safetensors.SafetensorError, RuntimeError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadReference(
            f"minima.from names {location}, which is not a readable checkpoint: {reason}"
        ) from None
    except Exception as error:  # unpickling of anything but weights is refused by torch
        raise BadReference(
            f"minima.from names {location}, which holds more than weights "
            f"({type(error).__name__}): save the state_dict() alone"
        ) from None
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise BadReference(f"minima.from names {location}, which is no state dict: save one")
    return loaded


def check_state_dict(location: str, state: Mapping[str, Tensor], loaded: Loaded) -> None:
    """Names, shapes and dtypes against the network.

    Raises:
        BadReference: the first mismatch.
    """
    wanted = loaded.module.state_dict()
    buffers = dict(loaded.module.named_buffers())
    for name, tensor in wanted.items():
        if name not in state:
            if name in buffers:  # statistics are recomputed in any case
                continue
            raise BadReference(f"minima.from: {location} has no {name}, which the network has")
        found = state[name]
        if found.shape != tensor.shape:
            raise BadReference(
                f"minima.from: {location} has {name} of shape {tuple(found.shape)}, and the "
                f"network has {tuple(tensor.shape)}"
            )
        if found.dtype != tensor.dtype:
            raise BadReference(
                f"minima.from: {location} has {name} of {found.dtype}, and the network has "
                f"{tensor.dtype}: convert the checkpoint"
            )
    for name in state:
        if name not in wanted:
            raise BadReference(f"minima.from: {location} has {name}, which the network has not")


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
