"""The loop on a path's state: ``init``, ``advance``, ``finished``.

A step evaluates the gradients of the moving points on one minibatch, takes out what lies along
the path (``forces``), and moves the points (``optimizers``). Every few steps the points are
spread along the path again, and new ones may be inserted (``insertion``). With minibatches the
height does not fall at each step, so the path with the lowest dense maximum is kept.

``paper`` moves one point after the other, so that a point sees its left neighbour as already
moved, as the loop of Algorithm 2 does. Gradients do not depend on that and are batched.
"""

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from topo_core import insertion as inserting
from topo_core.draws import generator
from topo_core.forces import Chords, descent_
from topo_core.objective import Objective, Step
from topo_core.optimizers import Slots, displacement, empty_slots
from topo_core.path import (
    at_positions,
    merge_coincident,
    positions_of,
    segment_lengths,
)
from topo_core.profile import Profile, loss_profile, losses_on_segments
from topo_core.settings import PathSettings, Resolved
from topo_core.state import PathState, Record

EVEN = 1.02  # longest over shortest segment below which spreading would only blur the path
_RESTS = 3  # records without a normal component before the run ends
_SHAKES = 10  # records of an unchanged height before the run ends


def init(
    objective: Objective, points: Tensor, settings: PathSettings, *, spent: int = 0
) -> PathState:
    """The state before the first step of a path that starts as ``points`` [n, d].

    The two ends stay where they are. Coincident neighbours are merged. ``spent`` is the number
    of gradients that it took to find ``points``.

    Raises:
        ValueError: for points that are not a finite path of the objective's dimension.
    """
    _check(objective, points)
    resolved = settings.resolve(objective.batches)
    path, merged = merge_coincident(points.detach().clone())
    start = measure(objective, path, settings)
    losses = objective.losses(path).to(path.dtype)[:, None]
    state = PathState(
        points=path,
        losses=losses,
        slots=empty_slots(resolved.optimizer, path),
        best=path,
        best_maximum=start.maximum,
        best_epoch=0,
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
        if math.isfinite(start.maximum)
        else "the loss on the starting path is not finite",
    )
    first = _record(state, start.maximum, rate=0.0, norms=Norms())
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
    resolved = settings.resolve(objective.batches)
    while state.epoch < until_epoch and not finished(state, settings):
        state = one_epoch(objective, state, resolved, seed)
    return state


def finished(state: PathState, settings: PathSettings) -> bool:
    """Whether ``advance`` has nothing left to do: at the end, failed, or at rest."""
    resolved = settings.resolve(state.batches)
    return bool(state.failure) or state.epoch >= resolved.epochs or _at_rest(state, resolved)


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


def one_epoch(objective: Objective, state: PathState, resolved: Resolved, seed: int) -> PathState:
    """One pass over the minibatches, then insertion and measurement where they are due."""
    epoch = state.epoch
    climbs = epoch >= resolved.climbs_from
    walk = _Walk(objective, state, resolved, climbs)
    rate = 0.0
    for batch in range(state.batches):
        step = Step(seed, epoch, batch)
        rate = resolved.schedule.rate(
            epoch, batch, state.batches, resolved.optimizer.lr, resolved.epochs
        )
        walk.step(step, rate, last=batch == state.batches - 1)
    return epoch_ended(objective, walk.state(epoch + 1), resolved, rate, walk.norms())


def epoch_ended(
    objective: Objective, state: PathState, resolved: Resolved, rate: float, norms: "Norms"
) -> PathState:
    """The state after the steps of an epoch, inserted into and measured where it is due.

    Args:
        objective: the loss.
        state: with the points where the last step left them, and the epoch counted.
        resolved: the settings on this objective.
        rate: learning rate of the last step.
        norms: of the gradients in it.
    """
    state = inserted(objective, state, resolved)
    if not is_measured(state, resolved):
        return state
    profile = measure(objective, state.points, resolved.settings)
    return recorded(state, profile.maximum, rate, norms)


def inserted(objective: Objective, state: PathState, resolved: Resolved) -> PathState:
    """The state at the end of an epoch: failed where points are not finite, else with new points."""
    rule = resolved.settings.insertion
    # The sum is finite where all points are, unless they are astronomical; a mask takes 20 times as long.
    if not bool(state.points.sum().isfinite()):
        return replace(
            state,
            points=state.best,
            failure=f"a point became infinite in epoch {state.epoch}; lower the learning rate",
        )
    if rule is not None and state.epoch % rule.every == 0 and state.epoch < resolved.epochs:
        state = _with_insertions(objective, state, rule)
    return state


def is_measured(state: PathState, resolved: Resolved) -> bool:
    """Whether the height is due at the end of this epoch."""
    due = state.epoch % resolved.settings.evaluate_every == 0 or state.epoch == resolved.epochs
    return due and not state.failure


class Norms(NamedTuple):
    """Of the two parts of the gradient: root mean squares over the points, and of each point."""

    normal: float = 0.0
    tangent: float = 0.0
    normals: tuple[float, ...] = ()
    tangents: tuple[float, ...] = ()

    @classmethod
    def of(cls, normals: Tensor, tangents: Tensor, *, of_all: bool) -> "Norms":
        """Of the lengths [m] of both parts; ``of_all`` where every moving point is among them."""
        normal, tangent = (float(part.square().mean().sqrt()) for part in (normals, tangents))
        if not of_all:
            return cls(normal, tangent)
        return cls(normal, tangent, tuple(normals.tolist()), tuple(tangents.tolist()))


class _Walk:
    """The steps of one epoch, on copies of the state's tensors that are moved in place."""

    def __init__(
        self, objective: Objective, state: PathState, resolved: Resolved, climbs: bool
    ) -> None:
        self.objective, self.before, self.resolved = objective, state, resolved
        self.climbs = climbs
        self.points = state.points.clone()
        self.losses = state.losses.clone()
        self.slots = dict(state.slots)
        self.steps, self.time = state.steps, state.time
        self.evaluations = state.gradient_evaluations
        # Written in every step: memory that stays, in the cache and in the process.
        self.scratch, self.slopes = torch.empty_like(self.points), torch.empty_like(self.points)
        self.last = False
        self.lengths = (torch.zeros(1), torch.zeros(1))
        self.all_moved = False
        # Rows that move: all but the two ends of the part that is not frozen.
        self.low, self.high = state.frozen + 1, len(state.points) - state.frozen - 1

    def step(self, step: Step, rate: float, *, last: bool) -> None:
        """Move the points along their normal components on one minibatch.

        ``last`` keeps the lengths of the components for the record of the epoch.
        """
        self.last = last
        self.steps += 1
        self.time += rate
        if self.high <= self.low:
            return
        rows = self._drawn(step)
        self.all_moved = isinstance(rows, slice)
        moving = self.points[rows]
        losses, gradients = self.objective.gradients(moving, step)
        self.losses[rows, 0] = losses.to(self.losses.dtype)
        self.evaluations += len(moving)
        # A copy in any case: what follows works in place, and the gradients may not be ours.
        gradients = torch.add(
            gradients, moving, alpha=self.resolved.settings.l2, out=self.slopes[: len(moving)]
        )
        if self.resolved.settings.force == "paper":
            self._one_by_one(rows, gradients, rate)
        else:
            self._together(rows, gradients, rate)
        every = self.resolved.redistribute_every
        # A climbing point has a place of its own; spreading would pull it off.
        if every and self.steps % every == 0 and not self.climbs:
            self._redistribute()

    def _drawn(self, step: Step) -> slice | Tensor:
        """The rows that move in this step."""
        count, moving = self.resolved.settings.points_per_step, self.high - self.low
        if count is None or count >= moving:
            return slice(self.low, self.high)
        draw = generator(step.seed, "points", step.epoch, step.batch)
        order = torch.randperm(moving, generator=draw)[:count].sort().values
        return order.to(self.points.device) + self.low

    def _together(self, rows: slice | Tensor, gradients: Tensor, rate: float) -> None:
        if isinstance(rows, slice):
            around = slice(rows.start - 1, rows.stop + 1)
            chords = Chords.of(self.points[around], scratch=self.scratch)
        else:
            chords = Chords.of(self.points, rows, scratch=self.scratch)
        self._descend(rows, chords, gradients)
        slots = {name: slot[rows] for name, slot in self.slots.items()}
        spacing = torch.minimum(chords.back_back, chords.front_front).sqrt()
        moved, slots = displacement(
            self.resolved.optimizer,
            slots,
            gradients,
            rate,
            spacing=spacing,
            max_move=self.resolved.max_move,
        )
        self._move(rows, moved)
        self._store(rows, slots)

    def _one_by_one(self, rows: slice | Tensor, gradients: Tensor, rate: float) -> None:
        """Algorithm 2 as written: the left neighbour has already moved."""
        index = range(rows.start, rows.stop) if isinstance(rows, slice) else rows.tolist()
        lengths = []
        for place, i in enumerate(index):
            row = slice(i, i + 1)
            chords = Chords.of(self.points[i - 1 : i + 2], scratch=self.scratch)
            normal = gradients[place : place + 1]
            self._descend(row, chords, normal)
            lengths.append(self.lengths)  # of this one point, where they are kept
            slots = {name: slot[row] for name, slot in self.slots.items()}
            moved, slots = displacement(
                self.resolved.optimizer,
                slots,
                normal,
                rate,
                spacing=torch.minimum(chords.back_back, chords.front_front).sqrt(),
                max_move=self.resolved.max_move,
            )
            self.points[row].sub_(moved)
            self._store(row, slots)
        if self.last:
            normals, taken = (torch.cat(parts) for parts in zip(*lengths, strict=True))
            self.lengths = (normals, taken)

    def _descend(self, rows: slice | Tensor, chords: Chords, gradients: Tensor) -> None:
        """Take out of ``gradients``, in place, what lies along the path."""
        losses = self.losses[:, 0]
        if isinstance(rows, slice):
            around = losses[rows.start - 1 : rows.stop + 1].unfold(0, 3, 1)
        else:
            around = torch.stack([losses[rows - 1], losses[rows], losses[rows + 1]], dim=1)
        climbing = None
        if self.climbs:
            climbing = around[:, 1] == losses[self.low : self.high].max()
        taken = descent_(
            self.resolved.settings.force,
            chords,
            gradients,
            around,
            spring=self.resolved.settings.spring,
            climbing=climbing,
        )
        if self.last:
            self.lengths = (torch.linalg.vector_norm(gradients, dim=1), taken)

    def _move(self, rows: slice | Tensor, moved: Tensor) -> None:
        if isinstance(rows, slice):
            self.points[rows].sub_(moved)
        else:
            self.points.index_add_(0, rows, moved, alpha=-1)

    def _store(self, rows: slice | Tensor, slots: Slots) -> None:
        for name, slot in slots.items():
            if self.slots[name] is self.before.slots.get(name):
                self.slots[name] = self.slots[name].clone()
            self.slots[name][rows] = slot

    def _redistribute(self) -> None:
        """Spread the moving points, and what they carry, at equal (weighted) arc length."""
        part = slice(self.low - 1, self.high + 1)
        measure = segment_lengths(self.points[part]).to(torch.float64)
        if self.resolved.focus:
            measure *= self._density(self.losses[part, 0])
        if bool(measure.max() <= EVEN * measure.min()):
            return
        positions = positions_of(measure)
        wanted = torch.linspace(
            0, 1, self.high - self.low + 2, dtype=torch.float64, device=self.points.device
        )[1:-1]
        rows = slice(self.low, self.high)
        self.points[rows] = at_positions(self.points[part], positions, wanted)
        self.losses[rows] = at_positions(self.losses[part], positions, wanted)
        self._store(
            rows,
            {
                name: at_positions(slot[part], positions, wanted)
                for name, slot in self.slots.items()
            },
        )

    def _density(self, losses: Tensor) -> Tensor:
        """Points wanted on a unit of length of each segment, up to a factor."""
        losses = losses.to(torch.float64)
        base = torch.maximum(losses[0], losses[-1])
        rise = ((losses - base) / (losses.max() - base).clamp_min(1e-30)).clamp(0, 1)
        density = 1 + self.resolved.focus * rise.square()
        return 0.5 * (density[1:] + density[:-1])

    def norms(self) -> Norms:
        """Of the normal and tangential parts in the last step."""
        return Norms.of(*self.lengths, of_all=self.all_moved)

    def state(self, epoch: int) -> PathState:
        return replace(
            self.before,
            points=self.points,
            losses=self.losses,
            slots=self.slots,
            epoch=epoch,
            steps=self.steps,
            time=self.time,
            gradient_evaluations=self.evaluations,
        )


def _with_insertions(
    objective: Objective, state: PathState, rule: inserting.Insertion
) -> PathState:
    """Algorithm 3 on the part of the path that is not frozen."""
    first, last = state.frozen, len(state.points) - state.frozen
    path = state.points[first:last]
    inside, nodes = path.new_empty(0, 0), path.new_empty(0)
    if rule.criterion != "distance":
        alphas = torch.tensor(inserting.ALPHAS, dtype=torch.float64, device=path.device)
        inside = losses_on_segments(
            objective, path[:-1], path[1:], alphas.expand(len(path) - 1, -1)
        )
        nodes = objective.losses(path)
    score = inserting.scores(rule.criterion, segment_lengths(path), state.chord, nodes, inside)
    room = rule.max_points - len(state.points) if rule.ends == "fixed" else len(path)
    segments = [first + s for s in inserting.chosen(score, rule.threshold, max(room, 0))]
    if not segments:
        return state
    return replace(
        state,
        points=inserting.insert(state.points, segments),
        losses=inserting.insert(state.losses, segments),
        slots={name: inserting.insert(slot, segments) for name, slot in state.slots.items()},
        frozen=state.frozen + (rule.ends == "paper"),
    )


def recorded(state: PathState, height: float, rate: float, norms: Norms) -> PathState:
    """The state with one more record, and with its path as the best if ``height`` is the lowest."""
    if not math.isfinite(height):
        return replace(
            state,
            points=state.best,
            failure=f"the loss became infinite in epoch {state.epoch}; lower the learning rate",
        )
    state = replace(state, history=(*state.history, _record(state, height, rate, norms)))
    if height < state.best_maximum:
        state = replace(state, best=state.points, best_maximum=height, best_epoch=state.epoch)
    return state


def _record(state: PathState, height: float, rate: float, norms: Norms) -> Record:
    lengths = segment_lengths(state.points)
    return Record(
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
        normal_norms=norms.normals,
        tangent_norms=norms.tangents,
    )
