"""Initial paths that continue those of another run: `start: warm` and `start: moved`.

`warm` continues the path between the same two minima. `moved` serves a changed loss (another ridge, more
data): the minima of this run are those of the other run, polished on the new loss, and the path moves with
them. If the highest point of the other path was a verified saddle, the saddle of the new loss is searched for
from there (`topo_core.paths.pass_refinement.lead_over`), which takes a few steps as long as the loss has not
changed much.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from topo_core.objectives.curvature import full_gradients
from topo_core.objectives.network_loss import ModuleObjective
from topo_core.paths.pass_refinement import NEAR, lead_over
from topo_core.paths.pass_state import PassState
from topo_core.paths.polyline import arc_positions, line, resample
from topo_core.paths.profiles import is_as_low_as, loss_profile
from topo_core.paths.starts.protocol import Start
from topo_core.paths.verified_pass import VerifiedPass
from workers.execution.interruptible_loss import InterruptibleLoss
from workers.execution.progress import TaskFailure
from workers.execution.stationarity import is_small, loss_tangents
from workers.execution.task_run import TaskContext
from workers.storage.immutable_objects import Damaged
from workers.storage.objects import NotWritable, StoreUnreachable
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store
from workers.tasks.path_tasks import OptimizePath
from workers.tasks.results import FailureKind

_VERIFIED = "verified"
"""`SaddleRecord.ended` of a path whose highest point is a verified saddle."""

_CROSSED = 1e-6
"""Distance of a saddle from a point of a path, in distances of its ends, up to which the path crosses it. A
saddle that is crossed is a point of the path, up to the rounding of float32."""

_PROMINENT = 0.05
"""Fall of the loss on both sides of a peak, in heights of the path above its higher end, from which the peak
may hide a saddle."""

_BESIDE = 3
"""Number of points of a path within which a peak belongs to a saddle that the path crosses."""


def warm_path(task: OptimizePath, start: Tensor, end: Tensor) -> Tensor:
    """The path [k, d] between the same minima in the store of another run, resampled to `settings.points`.

    Raises:
        ValueError: the other run has no such path, or its ends are not these minima.
        TaskFailure: the path is damaged.
    """
    location = task.settings.warm_from
    other = _other_run(task)
    for row in _optimised_paths(other):
        if {row["a"], row["b"]} == {task.a, task.b}:
            break
    else:
        raise ValueError(
            f"warm_from names {location}, which has no path between the minima {task.i} and "
            f"{task.j} of this run; choose another start, or a run with the same minima."
        )
    points = _tensors(task, other, row)["points"].to(start)
    if row["a"] != task.a:
        points = points.flip(0)
    points = resample(points, task.settings.points)
    if not (torch.equal(points[0], start) and torch.equal(points[-1], end)):
        raise ValueError(
            f"the path between the minima {task.i} and {task.j} in {location} ends at a renumbered "
            "copy of one of them; choose a run whose start was not aligned."
        )
    return points


def moved_start(
    task: OptimizePath, context: TaskContext, start: Tensor, end: Tensor, seed: int
) -> Start:
    """The lowest path of another run between minima of the same indices, moved to the minima of this run.

    Every point is displaced by the mean of the displacements of the two ends, weighted by its position along
    the path. If the loss has changed a little, the moved path is close to a path of the new loss. A path that
    was led over saddles keeps its points; any other path is resampled to `settings.points`. If the line
    between the new ends has no barrier, as where the two minima have merged, the line is the start.

    Args:
        task: the path.
        context: the problem and the store.
        start, end: [d], the minima of this run.
        seed: of the random directions in which a saddle is classified.

    Raises:
        ValueError: the other run has no such path, or a network of another size.
        TaskFailure: the path is damaged.
    """
    other = _other_run(task)
    known = [row for row in _all_paths(other) if (row["i"], row["j"]) == (task.i, task.j)]
    if not known:
        raise ValueError(
            f"warm_from names {task.settings.warm_from}, which has no path between its minima {task.i} and "
            f"{task.j}; choose another start, or a run with as many minima."
        )
    lowest = min(known, key=lambda row: (row["height"], row["key"]))
    tensors = _tensors(task, other, lowest)
    old = tensors["points"].to(start)
    if old.shape[1:] != start.shape:
        raise ValueError(
            f"warm_from names {task.settings.warm_from}, whose network has {old.shape[1]} parameters and "
            f"this one {len(start)}; choose a run of the same network."
        )
    objective = context.loaded.objective(len(context.loaded.data.train_inputs))
    straight = line(start, end, task.settings.points)
    losses = objective.losses(straight[[0, -1]])
    if is_as_low_as(loss_profile(objective, straight).maximum, losses, straight.dtype):
        return Start(straight)
    saddles = tensors.get("saddles") if lowest["ended"] in (None, _VERIFIED) else None
    if lowest["ended"] is None and saddles is None:
        old = resample(old, task.settings.points)
    moved = _moved(old, start, end)
    if saddles is None or not is_small(context.loaded):
        return Start(moved)
    exact = context.loaded.exact
    near = _near_saddles(
        objective, exact(saddles.to(start.device)), exact(tensors["points"].to(start)), exact(moved)
    )
    symmetries = loss_tangents(context.loaded, objective)
    searched = InterruptibleLoss(objective, context.progress)
    state = lead_over(searched, exact(moved), near, NEAR, symmetries=symmetries, seed=seed)
    points = state.best.to(start)
    points[0], points[-1] = start, end
    batches = context.loaded.objective(task.settings.batch_size).batches
    return Start(
        points,
        gradient_evaluations=(state.gradients + state.products + 2 * len(near)) * batches,
        verified=_verified(state),
    )


def _moved(points: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """The path ``points`` [k, d], displaced so that it leads from `start` to `end` [d]."""
    share = arc_positions(points)[:, None].to(points)
    moved = points + (1 - share) * (start - points[0]) + share * (end - points[-1])
    moved[0], moved[-1] = start, end  # without the rounding of the sum
    return moved


def _near_saddles(
    objective: ModuleObjective, saddles: Tensor, old: Tensor, moved: Tensor
) -> Tensor:
    """Points [k, d] from which the saddles of the moved path are searched for.

    For each saddle that the old path crosses this is the saddle of the old loss, or that point displaced as
    the path was, whichever has the smaller gradient; and the other prominent peaks of the moved path.

    Args:
        objective: the loss, with exact gradients.
        saddles: [s, d], saddles of the old loss; the path need not cross all of them.
        old: [n, d], the path over some of them.
        moved: [n, d], the same path after its displacement.
    """
    distances = torch.cdist(saddles, old)
    crossed = distances.amin(1) <= _CROSSED * float((old[-1] - old[0]).norm())
    vertices = distances.argmin(1)[crossed].unique()
    before, after = old[vertices], moved[vertices]
    _, gradients = full_gradients(objective, torch.cat([before, after]))
    norms = gradients.norm(dim=1).reshape(2, -1)
    near = torch.where((norms[0] <= norms[1])[:, None], before, after)
    others = [
        peak
        for peak in _peaks(objective.losses(moved).tolist())
        if all(abs(peak - vertex) > _BESIDE for vertex in vertices.tolist())
    ]
    return torch.cat([near, moved[others]])


def _peaks(losses: Sequence[float]) -> list[int]:
    """Indices of the local maxima above the higher end from which the loss falls on both sides by a fraction
    of `_PROMINENT` of the height above that end."""
    end = max(losses[0], losses[-1])
    fall = _PROMINENT * (max(losses) - end)
    peaks, low, high = list[int](), losses[0], 0
    for index, loss in enumerate(losses):
        if loss > losses[high]:
            high = index
        elif losses[high] - loss >= fall or loss < low:
            if losses[high] - low >= fall and losses[high] > end:
                peaks.append(high)
            low, high = loss, index
    return peaks


def _verified(state: PassState) -> VerifiedPass | None:
    """The verification of the highest point of the path; None if it is not a verified saddle."""
    top = state.highest_crossing
    if state.ended != _VERIFIED or top is None:
        return None
    return VerifiedPass(
        loss=top.loss,
        gradient_norm=top.gradient_norm,
        eigenvalues=top.eigenvalues[:2],
        error=max(top.bounds[:2]),
        joins=(top.end_losses[0], top.end_losses[1]),
        searched=False,
        minima=0,
        saddles=len(state.results),
        gradients=state.gradients,
        products=state.products,
    )


def _other_run(task: OptimizePath) -> Store:
    """The store that `warm_from` names.

    Raises:
        ValueError: the store cannot be read.
    """
    location = task.settings.warm_from
    assert location is not None  # checked by PathTaskSettings
    try:
        return Store(open_objects(location))
    except (NotWritable, StoreUnreachable) as error:
        raise ValueError(f"warm_from: {error}") from None


def _optimised_paths(other: Store) -> list[dict[str, Any]]:
    """The records of the paths of another run whose points were kept.

    Raises:
        ValueError: the store cannot be read.
    """
    columns = ("key", "i", "j", "a", "b", "height", "object")
    try:
        rows = other.table("pairs", columns).to_pylist()
    except (NotWritable, StoreUnreachable) as error:
        raise ValueError(f"warm_from: {error}") from None
    return [row for row in rows if row["object"] is not None]


def _all_paths(other: Store) -> list[dict[str, Any]]:
    """The same, and the records of paths that were led over saddles: these say in `ended` how that ended.

    Raises:
        ValueError: the store cannot be read.
    """
    columns = ("key", "i", "j", "height", "object", "ended")
    try:
        saddles = other.table("saddles", columns).to_pylist()
    except (NotWritable, StoreUnreachable) as error:
        raise ValueError(f"warm_from: {error}") from None
    refined = [row for row in saddles if row["object"] and math.isfinite(row["height"])]
    return [*({**row, "ended": None} for row in _optimised_paths(other)), *refined]


def _tensors(task: OptimizePath, other: Store, row: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors of a path, and of its saddle if it was led over one, in the store of another run.

    Raises:
        TaskFailure: the object is damaged.
    """
    read = other.read_saddle if row.get("ended") is not None else other.read_path
    try:
        return read(row["object"])
    except Damaged as error:
        location = task.settings.warm_from
        raise TaskFailure(FailureKind.DAMAGED, f"warm_from names {location}: {error}") from None
