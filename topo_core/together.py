"""Several paths walked in lockstep: the steps of ``walk`` on tensors [p, n, d].

On a GPU one path keeps few of its units busy, and most of a step's time goes by between kernels. Paths
of equal settings take equal steps, so p of them share every kernel: each step evaluates all paths in one
call, each path on its own minibatch, and moves all points at once. Epochs end by the same functions as for
one path; the heights that are due are measured in lockstep too.

What shares an epoch are paths at the same epoch with the same number of points and of frozen points.
Others go by themselves: those behind catch up first, paths whose numbers of points were made to differ by
insertion form groups of their own, and one that is at rest, at its end, or has failed leaves. With
``points_per_step`` every path draws its own points and is walked alone.

The results agree with those of ``advance`` up to rounding: products over more rows may be summed in
another order. So on a CPU, where a path's bits must not depend on its company, workers do not use it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from topo_core.forces import Chords, descent_
from topo_core.objective import Objective, Step, gradients_of_paths
from topo_core.optimizers import Slots, displacement
from topo_core.profile import loss_profiles
from topo_core.settings import PathSettings, Resolved
from topo_core.state import PathState
from topo_core.walk import EVEN, Norms, finished, inserted, is_measured, one_epoch, recorded


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
        for group in _alike(now, [i for i in going if now[i].epoch == behind]):
            walked = _epoch(objective, [now[i] for i in group], resolved, [seeds[i] for i in group])
            for i, state in zip(group, walked, strict=True):
                now[i] = state


def _alike(states: Sequence[PathState], members: Sequence[int]) -> Iterator[list[int]]:
    """Groups of ``members`` whose tensors have one shape."""
    groups: dict[tuple[torch.Size, int], list[int]] = {}
    for i in members:
        groups.setdefault((states[i].points.shape, states[i].frozen), []).append(i)
    yield from groups.values()


def _epoch(
    objective: Objective, states: Sequence[PathState], resolved: Resolved, seeds: Sequence[int]
) -> list[PathState]:
    """One epoch of paths of one shape at one epoch."""
    if len(states) == 1 or resolved.settings.points_per_step is not None:
        pairs = zip(states, seeds, strict=True)
        return [one_epoch(objective, state, resolved, seed) for state, seed in pairs]
    epoch, batches = states[0].epoch, states[0].batches
    walk = _Walks(objective, states, resolved, climbs=epoch >= resolved.climbs_from)
    rate = 0.0
    for batch in range(batches):
        rate = resolved.schedule.rate(epoch, batch, batches, resolved.optimizer.lr, resolved.epochs)
        steps = [Step(seed, epoch, batch) for seed in seeds]
        walk.step(steps, rate, last=batch == batches - 1)
    return _ended(objective, walk.states(epoch + 1), resolved, rate, walk.norms())


def _ended(
    objective: Objective,
    states: Sequence[PathState],
    resolved: Resolved,
    rate: float,
    norms: Sequence[Norms],
) -> list[PathState]:
    """The states at the end of an epoch; the heights that are due are measured together."""
    settings = resolved.settings
    after = [inserted(objective, state, resolved) for state in states]
    due = [i for i, state in enumerate(after) if is_measured(state, resolved)]
    profiles = loss_profiles(
        objective,
        [after[i].points for i in due],
        heights=settings.heights,
        tolerance=settings.height_tolerance,
    )
    for i, profile in zip(due, profiles, strict=True):
        after[i] = recorded(after[i], profile.maximum, rate, norms[i])
    return after


class _Walks:
    """The steps of one epoch of p paths, on stacked copies of their tensors."""

    def __init__(
        self,
        objective: Objective,
        states: Sequence[PathState],
        resolved: Resolved,
        *,
        climbs: bool,
    ) -> None:
        self.objective, self.before, self.resolved = objective, states, resolved
        self.climbs = climbs
        self.points = torch.stack([state.points for state in states])
        self.losses = torch.stack([state.losses for state in states])
        self.slots: Slots = {
            name: torch.stack([state.slots[name] for state in states]) for name in states[0].slots
        }
        self.steps, self.time = states[0].steps, [state.time for state in states]
        self.last = False
        self.lengths: tuple[Tensor, Tensor] | None = None
        frozen, count = states[0].frozen, self.points.shape[1]
        self.low, self.high = frozen + 1, count - frozen - 1
        self.moved_rows = 0

    def step(self, steps: Sequence[Step], rate: float, *, last: bool) -> None:
        """Move the points of every path along their normal components, each path on its minibatch."""
        self.last = last
        self.steps += 1
        self.time = [time + rate for time in self.time]
        if self.high <= self.low:
            return
        moving = self.points[:, self.low : self.high]
        losses, gradients = gradients_of_paths(self.objective, moving, steps)
        self.losses[:, self.low : self.high, 0] = losses.to(self.losses.dtype)
        self.moved_rows += moving.shape[1]
        gradients = torch.add(gradients, moving, alpha=self.resolved.settings.l2)
        if self.resolved.settings.force == "paper":
            self._one_by_one(gradients, rate)
        else:
            self.lengths = self._moved(self.low, self.high, gradients, rate)
        every = self.resolved.redistribute_every
        if every and self.steps % every == 0 and not self.climbs:
            self._redistribute()

    def _one_by_one(self, gradients: Tensor, rate: float) -> None:
        """Algorithm 2 as written: the left neighbour has already moved."""
        parts = [
            self._moved(i, i + 1, gradients[:, i - self.low : i - self.low + 1], rate)
            for i in range(self.low, self.high)
        ]
        kept = [part for part in parts if part is not None]
        if kept:
            normals, tangents = (torch.cat(part, dim=1) for part in zip(*kept, strict=True))
            self.lengths = normals, tangents

    def _moved(
        self, low: int, high: int, gradients: Tensor, rate: float
    ) -> tuple[Tensor, Tensor] | None:
        """Move the points of rows ``low`` to ``high`` of every path, all at once.

        Returns:
            Lengths [p, m] of the normal and the tangential parts, in the last step of an epoch.
        """
        paths, size = len(self.points), high - low
        resolved, rows = self.resolved, gradients.flatten(0, 1)
        chords = Chords.of_paths(self.points[:, low - 1 : high + 1])
        around = self.losses[:, low - 1 : high + 1, 0].unfold(1, 3, 1).flatten(0, 1)
        climbing = None
        if self.climbs:
            top = self.losses[:, self.low : self.high, 0].amax(1)
            climbing = around[:, 1] == top.repeat_interleave(size)
        taken = descent_(
            resolved.settings.force,
            chords,
            rows,
            around,
            spring=resolved.settings.spring,
            climbing=climbing,
        )
        lengths = None
        if self.last:
            normals = torch.linalg.vector_norm(rows, dim=1)
            lengths = normals.view(paths, size), taken.view(paths, size)
        moved, slots = displacement(
            resolved.optimizer,
            {name: slot[:, low:high].flatten(0, 1) for name, slot in self.slots.items()},
            rows,
            rate,
            spacing=torch.minimum(chords.back_back, chords.front_front).sqrt(),
            max_move=resolved.max_move,
            paths=paths,
        )
        self.points[:, low:high].sub_(moved.view(paths, size, -1))
        for name, slot in slots.items():
            self.slots[name][:, low:high] = slot.view(paths, size, -1)
        return lengths

    def _redistribute(self) -> None:
        """Spread the moving points of uneven paths, and what they carry, along each of them."""
        part, rows = slice(self.low - 1, self.high + 1), slice(self.low, self.high)
        points = self.points[:, part]
        chords = points[:, 1:] - points[:, :-1]
        measure = torch.linalg.vector_norm(chords, dim=2).to(torch.float64)
        if self.resolved.focus:
            measure *= _density(self.losses[:, part, 0], self.resolved.focus)
        even = measure.amax(1) <= EVEN * measure.amin(1)
        if bool(even.all()):
            return
        place = _Places(_positions(measure), self.high - self.low)
        for rows_of in (self.points, self.losses, *self.slots.values()):
            spread = place.interpolated(rows_of[:, part])
            rows_of[:, rows] = torch.where(even[:, None, None], rows_of[:, rows], spread)

    def states(self, epoch: int) -> list[PathState]:
        """One state a path, with tensors of its own: the best path is kept long after the others."""
        return [
            replace(
                before,
                points=self.points[i].clone(),
                losses=self.losses[i].clone(),
                slots={name: slot[i].clone() for name, slot in self.slots.items()},
                epoch=epoch,
                steps=self.steps,
                time=self.time[i],
                gradient_evaluations=before.gradient_evaluations + self.moved_rows,
            )
            for i, before in enumerate(self.before)
        ]

    def norms(self) -> list[Norms]:
        """Of the normal and tangential parts of each path in the last step."""
        if self.lengths is None:
            return [Norms() for _ in self.before]
        pairs = zip(*self.lengths, strict=True)
        return [Norms.of(normals, tangents, of_all=True) for normals, tangents in pairs]


def _density(losses: Tensor, focus: float) -> Tensor:
    """Points wanted on a unit of length of each segment, up to a factor, for ``losses`` [p, n]."""
    losses = losses.to(torch.float64)
    base = torch.maximum(losses[:, :1], losses[:, -1:])
    rise = (losses - base) / (losses.amax(1, keepdim=True) - base).clamp_min(1e-30)
    density = 1 + focus * rise.clamp(0, 1).square()
    return 0.5 * (density[:, 1:] + density[:, :-1])


def _positions(measure: Tensor) -> Tensor:
    """Positions [p, n] from 0 to 1 of points whose segments have the sizes ``measure`` [p, n - 1]."""
    paths, segments = measure.shape
    total = measure.sum(1, keepdim=True)
    equal = torch.linspace(0, 1, segments + 1, dtype=measure.dtype, device=measure.device)
    found = torch.cat([measure.new_zeros(paths, 1), measure.cumsum(1)], dim=1) / total
    found[:, -1] = 1.0
    return torch.where(total > 0, found, equal)


class _Places:
    """``count`` inner places at equal distance, on p paths whose points are at ``positions`` [p, n]."""

    def __init__(self, positions: Tensor, count: int) -> None:
        wanted = torch.linspace(0, 1, count + 2, dtype=torch.float64, device=positions.device)
        inner = wanted[1:-1].expand(len(positions), -1).contiguous()
        last = positions.shape[1] - 1
        self.right = torch.searchsorted(positions, inner, right=True).clamp(1, last)
        before = positions.gather(1, self.right - 1)
        gap = positions.gather(1, self.right) - before
        weight = torch.where(gap > 0, (inner - before) / gap, torch.zeros_like(gap))
        self.weight = weight.clamp(0, 1)[..., None]
        self.path = torch.arange(len(positions), device=positions.device)[:, None]

    def interpolated(self, rows: Tensor) -> Tensor:
        """``rows`` [p, n, c], given at the points, at the places: [p, count, c]."""
        left, right = rows[self.path, self.right - 1], rows[self.path, self.right]
        return torch.lerp(left, right, self.weight.to(rows.dtype))
