"""Run one `OptimizePath`: from its last checkpoint to a record and a path in the store."""

import math
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from topo_core.convergence import Outcome
from topo_core.draws import seed_of
from topo_core.optimize import PathSolution, advance, finished, init, solution
from topo_core.state import PathState, Record
from workers.first_path import first_path
from workers.problem import Loaded
from workers.results import FailureKind
from workers.schema import PairRecord
from workers.store import Store
from workers.tasks import OptimizePath
from workers.telling import TaskFailure, Telling


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
    settings = task.settings
    objective = loaded.objective(settings.batch_size)
    # Of the lineage, not of the key: a path with more epochs begins with the same draws.
    seed = seed_of(task.seed, "path", task.lineage)
    total = settings.total_epochs(objective.batches)
    fork = settings.depends_on_epochs_from(objective.batches)
    state = _resume(task, store, fork)
    if state is None:
        first = first_path(task, loaded, objective, store, seed)
        state = init(objective, first.points, settings, spent=first.gradient_evaluations)
    while not finished(state, settings):
        until = (state.epoch // settings.checkpoint_every + 1) * settings.checkpoint_every
        if task.goes_on and state.epoch < fork:
            until = min(until, fork)
        since = state.epoch
        state = advance(objective, state, settings, seed, until_epoch=until)
        telling.path_epochs += state.epoch - since
        if task.goes_on and state.epoch == fork and not state.failure:
            store.publish_checkpoint(task.lineage, fork, state.tensors(), state.scalars())
        if not finished(state, settings):
            store.publish_checkpoint(task.key, state.epoch, state.tensors(), state.scalars())
        telling.share(task.key, state.epoch / total)
    found = solution(objective, state, settings)
    if found.outcome is Outcome.DIVERGED:
        store.drop_checkpoints(task.key)
        raise TaskFailure(FailureKind.DIVERGED, found.evidence.reason)
    name = None
    if keep_points:
        name = store.publish_path(task.key, _tensors(found), a=task.a, b=task.b)
    store.drop_checkpoints(task.key)
    if not task.goes_on:
        store.drop_checkpoints(task.lineage)
    return _record(task, found, total, name)


def _resume(task: OptimizePath, store: Store, fork: int) -> PathState | None:
    """The state to go on from: of this task, or of the same path with fewer epochs."""
    checkpoint = store.latest_checkpoint(task.key) or store.latest_checkpoint(
        task.lineage, at_most=fork
    )
    return PathState.restore(checkpoint.tensors, checkpoint.scalars) if checkpoint else None


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


def _record(task: OptimizePath, found: PathSolution, epochs: int, name: str | None) -> PairRecord:
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
        height_low=height,
        height_high=height + profile.bracket,
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
    for name in ("time", "normal_norms", "tangent_norms"):  # the norms are beside the points
        values.pop(name)
    return values
