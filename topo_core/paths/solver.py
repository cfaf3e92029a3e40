"""The loop on the states of paths: ``init``, ``advance``, ``finished``.

An epoch is in ``epoch``, its steps in ``steps``: both know p paths at once; ``advance`` is the case of one.

On a GPU one path keeps few of its units busy, and most of a step's time goes by between kernels. Paths
of equal settings take equal steps, so with ``advance_together`` p of them share every kernel. What shares an
epoch are paths at the same epoch with the same number of points and of frozen points. Others go by
themselves: those behind catch up first, paths whose numbers of points were made to differ by insertion form
groups of their own, and one that is at rest, at its end, or has failed leaves. With ``points_per_step``
every path draws its own points and is walked alone.

Several agree with one at a time up to rounding: products over more rows may be summed in another order.
So on a CPU, where a path's bits must not depend on its company, workers walk one after another.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective
from topo_core.paths.epochs import one_epoch, record_of
from topo_core.paths.polyline import merge_coincident
from topo_core.paths.profiles import Profile, is_as_low_as, loss_profile
from topo_core.paths.settings import PathSettings, Resolved
from topo_core.paths.state import PathState
from topo_core.paths.steps import Norms
from topo_core.paths.updates import empty_slots

_RESTS = 3  # records without a normal component before the run ends
_SHAKES = 10  # records of an unchanged height before the run ends


def init(
    objective: Objective,
    points: Tensor,
    settings: PathSettings,
    *,
    spent: int = 0,
    profile: Profile | None = None,
) -> PathState:
    """The state before the first step of a path that starts as ``points`` [n, d].

    The two ends stay where they are. Coincident neighbours are merged.

    Args:
        objective: the loss.
        points: the first path.
        settings: of its optimisation.
        spent: the number of gradients that it took to find ``points``.
        profile: of ``points``, if they have been measured.

    Raises:
        ValueError: for points that are not a finite path of the objective's dimension.
    """
    _check(objective, points)
    resolved = settings.resolve(objective.batches)
    path, merged = merge_coincident(points.detach().clone())
    if profile is None or merged:
        profile = measure(objective, path, settings)
    losses = objective.losses(path).to(path.dtype)[:, None]
    state = PathState(
        points=path,
        losses=losses,
        slots=empty_slots(resolved.optimizer, path),
        best=path,
        best_maximum=profile.maximum,
        best_epoch=0,
        best_profile=profile,
        chord=float((path[-1] - path[0]).norm()),
        frozen=0,
        epoch=0,
        steps=0,
        batches=objective.batches,
        time=0.0,
        gradient_evaluations=spent,
        merged=merged,
        history=(),
        failure=""
        if math.isfinite(profile.maximum)
        else "the loss on the starting path is not finite",
    )
    first = record_of(state, profile.maximum, rate=0.0, norms=Norms())
    return replace(state, history=(first,))


def advance(
    objective: Objective,
    state: PathState,
    settings: PathSettings,
    seed: int,
    *,
    until_epoch: int,
) -> PathState:
    """The state at ``until_epoch`` (or at the end of the run, or where it failed).

    Going there in one call or in several gives the same bits on a CPU.
    """
    return advance_together(objective, [state], settings, [seed], until_epoch=until_epoch)[0]


def advance_together(
    objective: Objective,
    states: Sequence[PathState],
    settings: PathSettings,
    seeds: Sequence[int],
    *,
    until_epoch: int,
) -> list[PathState]:
    """The states at ``until_epoch`` (or where each one's run ends), as ``advance`` has them.

    Args:
        objective: the loss.
        states: of p paths in one space, at any epochs.
        settings: of all of them.
        seeds: one a path.
        until_epoch: how far to go.
    """
    resolved = settings.resolve(objective.batches)
    now = list(states)
    while True:
        going = [
            i
            for i, state in enumerate(now)
            if state.epoch < until_epoch and not finished(state, settings)
        ]
        if not going:
            return now
        behind = min(now[i].epoch for i in going)
        alone = settings.points_per_step is not None
        for group in _groups(now, [i for i in going if now[i].epoch == behind], alone=alone):
            walked = one_epoch(
                objective, [now[i] for i in group], resolved, [seeds[i] for i in group]
            )
            for i, state in zip(group, walked, strict=True):
                now[i] = state


def _groups(
    states: Sequence[PathState], members: Sequence[int], *, alone: bool
) -> Iterator[list[int]]:
    """Groups of ``members`` whose tensors have one shape; one by one if each is to go ``alone``."""
    groups: dict[tuple[torch.Size, int, int], list[int]] = {}
    for i in members:
        key = states[i].points.shape, states[i].frozen, i if alone else 0
        groups.setdefault(key, []).append(i)
    yield from groups.values()


def finished(state: PathState, settings: PathSettings) -> bool:
    """Whether ``advance`` has nothing left to do: at the end, failed, as low as can be, or at rest.

    ``paper`` goes on to the end of the run, as Algorithm 2 does.
    """
    resolved = settings.resolve(state.batches)
    if state.failure or state.epoch >= resolved.epochs:
        return True
    lowest = settings.force != "paper" and is_as_low_as_its_end(state)
    return lowest or _at_rest(state, resolved)


def is_as_low_as_its_end(state: PathState) -> bool:
    """Whether no path can be lower than the best one; see ``is_as_low_as``."""
    return is_as_low_as(state.best_maximum, float(state.losses[[0, -1]].max()))


def _at_rest(state: PathState, resolved: Resolved) -> bool:
    """Whether exact gradients no longer change the path.

    Either they have no part across the path any more, or they only shake it (the upwind tangent
    switches, points are spread again) and its height has long stayed within the tolerance.
    """
    climbs_from = resolved.climbs_from if resolved.settings.climbing_epochs else 0
    records = [record for record in state.history[1:] if record.epoch > climbs_from]
    if not resolved.settles or len(records) < _RESTS:
        return False
    still = math.sqrt(torch.finfo(state.points.dtype).eps)
    last = records[-_RESTS:]
    if all(record.normal_norm <= still * last[0].tangent_norm for record in last):
        return True
    heights = [record.dense_maximum for record in records[-_SHAKES:]]
    barrier = max(heights) - float(state.losses[[0, -1]].max())
    stays = max(heights) - min(heights) <= resolved.settings.height_tolerance * barrier
    return len(heights) == _SHAKES and stays


def _check(objective: Objective, points: Tensor) -> None:
    if points.ndim != 2 or len(points) < 2 or not points.is_floating_point():
        raise ValueError(
            f"the path has shape {tuple(points.shape)} and dtype {points.dtype}; it must be "
            "[points, dimension] with two points or more, of a floating dtype."
        )
    if objective.dimension not in (None, points.shape[1]):
        raise ValueError(
            f"the points have dimension {points.shape[1]} and the objective has "
            f"{objective.dimension}; give points of its dimension."
        )
    if not bool(points.isfinite().all()):
        raise ValueError("the path has values that are not finite; start from finite points.")


def measure(objective: Objective, points: Tensor, settings: PathSettings) -> Profile:
    """The losses along ``points`` [n, d], as ``settings`` wants them measured."""
    return loss_profile(
        objective, points, heights=settings.heights, tolerance=settings.height_tolerance
    )
