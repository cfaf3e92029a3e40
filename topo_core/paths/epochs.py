"""One epoch of a path, or of several paths in lockstep: the steps, then insertion and measurement if due.

With minibatches the height does not fall in every step, so the path with the lowest dense maximum is kept.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from topo_core.objectives.protocol import Objective, Step
from topo_core.paths.criteria.protocol import ALPHAS, Segments
from topo_core.paths.criteria.registry import CRITERIA
from topo_core.paths.insertion import insert, segments_to_split
from topo_core.paths.insertion_settings import Insertion
from topo_core.paths.polyline import segment_lengths
from topo_core.paths.profiles import Profile, loss_profiles, losses_on_segments
from topo_core.paths.settings import ResolvedSettings
from topo_core.paths.state import EpochRecord, PathState
from topo_core.paths.steps import MovingPaths, Norms


def one_epoch(
    objective: Objective,
    states: Sequence[PathState],
    resolved: ResolvedSettings,
    seeds: Sequence[int],
) -> list[PathState]:
    """The states after one pass over the minibatches.

    Args:
        objective: the loss.
        states: of p paths at the same epoch, with equal numbers of points and of frozen points.
        resolved: the settings of all paths on this objective.
        seeds: one for each path.
    """
    epoch, batches = states[0].epoch, states[0].batches
    moving = MovingPaths(objective, states, resolved, climbs=epoch >= resolved.climbs_from)
    rate = 0.0
    for batch in range(batches):
        rate = resolved.schedule.rate(epoch, batch, batches, resolved.optimizer.lr, resolved.epochs)
        steps = [Step(seed, epoch, batch) for seed in seeds]
        moving.step(steps, rate, last=batch == batches - 1)
    return _ended(objective, moving.states(epoch + 1), resolved, rate, moving.norms())


def _ended(
    objective: Objective,
    states: Sequence[PathState],
    resolved: ResolvedSettings,
    rate: float,
    norms: Sequence[Norms],
) -> list[PathState]:
    """The states after the steps of an epoch; the heights that are due are measured together."""
    settings = resolved.settings
    after = [_inserted(objective, state, resolved) for state in states]
    due = [i for i, state in enumerate(after) if _is_measured(state, resolved)]
    profiles = loss_profiles(
        objective,
        [after[i].points for i in due],
        heights=settings.heights,
        tolerance=settings.height_tolerance,
    )
    for i, profile in zip(due, profiles, strict=True):
        after[i] = _recorded(after[i], profile, rate, norms[i])
    return after


def _inserted(objective: Objective, state: PathState, resolved: ResolvedSettings) -> PathState:
    """The state at the end of an epoch: failed if a point is not finite, otherwise after an insertion if
    due."""
    rule = resolved.insertion
    # A finite sum means finite points (unless they overflow it); a mask of all values takes 20 times as long.
    if not bool(state.points.sum().isfinite()):
        return replace(
            state,
            points=state.best,
            failure=f"a point became infinite in epoch {state.epoch}; lower the learning rate",
        )
    if rule is not None and state.epoch % rule.every == 0 and state.epoch < resolved.epochs:
        state = _with_insertions(objective, state, rule, resolved.settings.points)
    return state


def _is_measured(state: PathState, resolved: ResolvedSettings) -> bool:
    """Whether the height is due at the end of this epoch."""
    due = state.epoch % resolved.settings.evaluate_every == 0 or state.epoch == resolved.epochs
    return due and not state.failure


def _with_insertions(
    objective: Objective, state: PathState, rule: Insertion, begun: int
) -> PathState:
    """Algorithm 3 on the part of the path that is not frozen.

    Algorithm 3 inserts two points and freezes one at each end, so that the number of moving points stays that
    of the initial path, which had ``begun`` points. If only one segment is above the threshold, the points
    are frozen with the next insertion.
    """
    first, last = state.frozen, len(state.points) - state.frozen
    path = state.points[first:last]
    inside, nodes = path.new_empty(0, 0), path.new_empty(0)
    criterion = CRITERIA[rule.criterion]
    if criterion.needs_losses:
        alphas = torch.tensor(ALPHAS, dtype=torch.float64, device=path.device)
        inside = losses_on_segments(
            objective, path[:-1], path[1:], alphas.expand(len(path) - 1, -1)
        )
        nodes = objective.losses(path)
    score = criterion.scores(Segments(segment_lengths(path), state.chord, nodes, inside))
    allowed = rule.max_points - len(state.points) if rule.ends == "fixed" else len(path)
    segments = [first + s for s in segments_to_split(score, rule.threshold, max(allowed, 0))]
    if not segments:
        return state
    frozen = state.frozen
    if rule.ends == "paper":
        moving = len(state.points) + len(segments) - 2 - 2 * frozen
        frozen += max(0, (moving - (begun - state.merged - 2)) // 2)
    return replace(
        state,
        points=insert(state.points, segments),
        losses=insert(state.losses, segments),
        slots={name: insert(slot, segments) for name, slot in state.slots.items()},
        frozen=frozen,
    )


def _recorded(state: PathState, profile: Profile, rate: float, norms: Norms) -> PathState:
    """The state with one more record, and with its path as the best if its height is the lowest."""
    height = profile.maximum
    if not math.isfinite(height):
        return replace(
            state,
            points=state.best,
            failure=f"the loss became infinite in epoch {state.epoch}; lower the learning rate",
        )
    state = replace(state, history=(*state.history, record_of(state, height, rate, norms)))
    if height < state.best_maximum:
        state = replace(
            state,
            best=state.points,
            best_maximum=height,
            best_epoch=state.epoch,
            best_profile=profile,
        )
    return state


def record_of(state: PathState, height: float, rate: float, norms: Norms) -> EpochRecord:
    """The record of a state of dense maximum ``height``; ``rate`` and ``norms`` are of its last step."""
    lengths = segment_lengths(state.points)
    return EpochRecord(
        epoch=state.epoch,
        rate=rate,
        time=state.time,
        max_loss=float(state.losses.max()),
        dense_maximum=height,
        normal_norm=norms.normal,
        tangent_norm=norms.tangent,
        length=float(lengths.sum()),
        stretch=float(lengths.max() / lengths.min().clamp_min(1e-30)),
        points=len(state.points),
        gradient_evaluations=state.gradient_evaluations,
        cut=norms.cut,
        normal_norms=norms.normals,
        tangent_norms=norms.tangents,
    )
