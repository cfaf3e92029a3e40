"""Run one `OptimizePath`: from its last checkpoint to a record, a path in the store, and no checkpoint."""

import math
from datetime import UTC, datetime

import torch
from torch import Tensor

from topo_core.optimize import (
    Outcome,
    PathSolution,
    PathState,
    advance,
    init,
    initial_path,
    solution,
)
from topo_core.draws import seed_of
from workers.problem import Loaded
from workers.results import FailureKind
from workers.schema import PairRecord
from workers.store import Store
from workers.tasks import OptimizePath
from workers.telling import TaskFailure, Telling


def optimize_path_task(
    task: OptimizePath, loaded: Loaded, store: Store, telling: Telling
) -> PairRecord:
    """Optimise the path between two minima of the store.

    A checkpoint is published every `checkpoint_every` epochs; a task that starts again goes on from
    the newest readable one and gives the same bits as one that was never interrupted.

    Raises:
        TaskFailure: the loss diverged.
        Damaged: a minimum that the path starts from cannot be read.
        Interrupted: asked to stop.
    """
    settings = task.settings
    objective = loaded.objective(settings.batch_size)
    start, end = (loaded.flat(store.read_minimum(key)) for key in (task.a, task.b))
    seed = seed_of(task.seed, task.key)
    state = _resume(task, store)
    if state is None:
        path = initial_path(objective, start, end, settings, seed=seed)
        state = init(objective, path, settings)
    while state.epoch < settings.epochs and state.diverged is None:
        until = min(settings.epochs, _next_checkpoint(state.epoch, settings.checkpoint_every))
        state = advance(objective, state, settings, seed, until_epoch=until)
        if state.epoch < settings.epochs:
            store.publish_checkpoint(task.key, state.epoch, state.tensors(), state.scalars())
        telling.share(task.key, state.epoch / settings.epochs)
    found = solution(objective, state, settings)
    if found.outcome is Outcome.DIVERGED:
        raise TaskFailure(FailureKind.DIVERGED, found.reason)
    record = _record(task, found, loaded, store)
    store.drop_checkpoints(task.key)
    return record


def _next_checkpoint(epoch: int, every: int) -> int:
    return (epoch // every + 1) * every


def _resume(task: OptimizePath, store: Store) -> PathState | None:
    checkpoint = store.latest_checkpoint(task.key)
    return PathState.restore(checkpoint.tensors, checkpoint.scalars) if checkpoint else None
