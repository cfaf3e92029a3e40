"""The steps of one epoch of p paths in lockstep, on tensors [p, n, d] that are moved in place.

A step evaluates the gradients at the moving points of all paths in one call, each path on its own minibatch.
It removes the parts of the gradients along the path (``descent_directions``) and moves the points
(``displacements``). Every few steps the points are redistributed along each path.

With a sequential tangent rule (``paper``) points move one after the other, and the tangent at a point uses
the moved position of its left neighbour, as in the loop of Algorithm 2. The gradients do not depend on this
order and are evaluated in one batch.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective, Step, gradients_of_paths
from topo_core.paths.chords import Chords
from topo_core.paths.descent_directions import descent_
from topo_core.paths.displacements import displacement
from topo_core.paths.polyline import at_positions, positions_of, segment_lengths
from topo_core.paths.settings import ResolvedSettings
from topo_core.paths.state import PathState
from topo_core.random_streams import generator

# fraction of the bound from which a displacement counts as cut; the rest allows for rounding
_CUT = 0.999
# longest over shortest segment up to which points stay: interpolation would only smooth the path
EVEN = 1.02


class Norms(NamedTuple):
    """Norms of the normal and the tangential parts of gradients.

    Attributes:
        normal, tangent: root mean squares over the points.
        cut: fraction of the displacements that were cut to ``max_move``.
        normals, tangents: norms at each point; empty if not all points moved.
    """

    normal: float = 0.0
    tangent: float = 0.0
    cut: float = 0.0
    normals: tuple[float, ...] = ()
    tangents: tuple[float, ...] = ()

    @classmethod
    def of(cls, normals: Tensor, tangents: Tensor, cut: Tensor, *, of_all: bool) -> "Norms":
        """The norms from those of m points.

        Args:
            normals, tangents: [m], norms of both parts at each point.
            cut: [m] of bool, which displacements were cut.
            of_all: whether the m points are all moving points.
        """
        normal, tangent = (float(part.square().mean().sqrt()) for part in (normals, tangents))
        share = float(cut.to(torch.float64).mean())
        if not of_all:
            return cls(normal, tangent, share)
        return cls(normal, tangent, share, tuple(normals.tolist()), tuple(tangents.tolist()))


class MovingPaths:
    """Copies of the tensors of p states of one shape and epoch, and the steps that move them.

    Args:
        objective: the loss.
        states: one for each path; a single state with ``points_per_step``, since each path draws its own
            points.
        resolved: the settings of all paths on this objective.
        climbs: whether the highest point of each path climbs.
    """

    def __init__(
        self,
        objective: Objective,
        states: Sequence[PathState],
        resolved: ResolvedSettings,
        *,
        climbs: bool,
    ) -> None:
        self.objective, self.before, self.resolved = objective, states, resolved
        self.climbs = climbs
        self.points = torch.stack([state.points for state in states])
        # Where coordinates have units, ``points`` and all that follows from them are in these units.
        self.units = _stacked_units(states)
        if self.units is not None:
            self.points /= self.units
        self.losses = torch.stack([state.losses for state in states])
        self.slots = {
            name: torch.stack([state.slots[name] for state in states]) for name in states[0].slots
        }
        self.steps, self.times = states[0].steps, [state.time for state in states]
        self.evaluations = 0
        # Written in every step: allocated once, so that the memory stays in the cache.
        self.scratch, self.slopes = torch.empty_like(self.points), torch.empty_like(self.points)
        self.lengths: list[tuple[Tensor, Tensor, Tensor]] | None = None
        self.all_moved = False
        # Rows that move: all but the two ends of the part that is not frozen.
        frozen, count = states[0].frozen, self.points.shape[1]
        self.low, self.high = frozen + 1, count - frozen - 1

    def step(self, steps: Sequence[Step], rate: float, *, last: bool) -> None:
        """Move the points of every path along the normal parts of their gradients.

        Path i uses the minibatch ``steps[i]``. With ``last``, the norms of the parts are kept for the record
        of the epoch.
        """
        self.lengths = [] if last else None
        self.steps += 1
        self.times = [time + rate for time in self.times]
        if self.high <= self.low:
            return
        rows = self._drawn(steps)
        self.all_moved = isinstance(rows, slice)
        moving = self.points[:, rows]
        if self.units is not None:
            moving = moving * self.units
        losses, gradients = gradients_of_paths(self.objective, moving, steps)
        self.losses[:, rows, 0] = losses.to(self.losses.dtype)
        self.evaluations += moving.shape[1]
        # Always a copy: the next operations overwrite it, and the objective may hold on to its gradients.
        slopes = self.slopes[:, : moving.shape[1]]
        torch.add(gradients, moving, alpha=self.resolved.settings.l2, out=slopes)
        if self.units is not None:
            slopes *= self.units
        if self.resolved.rule.method.sequential:
            index = range(rows.start, rows.stop) if isinstance(rows, slice) else rows.tolist()
            for row, i in enumerate(index):
                self._move(slice(i, i + 1), slopes[:, row : row + 1], rate)
        else:
            self._move(rows, slopes, rate)
        every = self.resolved.redistribute_every
        # Redistribution would move a climbing point off its saddle.
        if every and self.steps % every == 0 and not self.climbs:
            self._redistribute()

    def _drawn(self, steps: Sequence[Step]) -> slice | Tensor:
        """The indices of the points that move in this step."""
        count, moving = self.resolved.settings.points_per_step, self.high - self.low
        if count is None or count >= moving:
            return slice(self.low, self.high)
        (step,) = steps
        draw = generator(step.seed, "points", step.epoch, step.batch)
        order = torch.randperm(moving, generator=draw)[:count].sort().values
        return order.to(self.points.device) + self.low

    def _move(self, rows: slice | Tensor, slopes: Tensor, rate: float) -> None:
        """Move m points of every path at once; ``slopes`` [p, m, d], their gradients, are overwritten."""
        losses = self.losses[..., 0]
        if isinstance(rows, slice):
            around = slice(rows.start - 1, rows.stop + 1)
            chords = Chords.of(self.points[:, around], scratch=self.scratch)
            nearby = losses[:, around].unfold(1, 3, 1)
        else:
            chords = Chords.of(self.points, rows)
            nearby = torch.stack([losses[:, rows + side] for side in (-1, 0, 1)], dim=-1)
        climbing = None
        if self.climbs:
            climbing = nearby[..., 1] == losses[:, self.low : self.high].amax(1, keepdim=True)
        taken = descent_(
            self.resolved.rule,
            chords,
            slopes,
            nearby,
            spring=self.resolved.settings.spring,
            climbing=climbing,
        )
        normals = torch.linalg.vector_norm(slopes, dim=-1) if self.lengths is not None else None
        spacing = torch.minimum(chords.back_back, chords.front_front).sqrt()
        slots = {name: slot[:, rows] for name, slot in self.slots.items()}
        moved = displacement(
            self.resolved.optimizer,
            slots,
            slopes,
            rate,
            spacing=spacing,
            max_move=self.resolved.max_move,
        )
        if self.lengths is not None and normals is not None:
            bound = math.inf if self.resolved.max_move is None else self.resolved.max_move
            cut = torch.linalg.vector_norm(moved, dim=-1) >= _CUT * bound * spacing
            self.lengths.append((normals, taken, cut))
        if isinstance(rows, slice):  # the slots were views
            self.points[:, rows].sub_(moved)
            return
        self.points.index_add_(1, rows, moved, alpha=-1)
        for name, slot in slots.items():
            self.slots[name].index_copy_(1, rows, slot)

    def _redistribute(self) -> None:
        """Redistribute the points of uneven paths at equal (weighted) arc length, with their losses and
        slots."""
        part, rows = slice(self.low - 1, self.high + 1), slice(self.low, self.high)
        measure = segment_lengths(self.points[:, part]).to(torch.float64)
        if self.resolved.focus:
            measure *= _density(self.losses[:, part, 0], self.resolved.focus)
        even = measure.amax(1) <= EVEN * measure.amin(1)
        if bool(even.all()):
            return
        positions = positions_of(measure)
        wanted = torch.linspace(
            0, 1, self.high - self.low + 2, dtype=torch.float64, device=measure.device
        )[1:-1]
        for carried in (self.points, self.losses, *self.slots.values()):
            spread = at_positions(carried[:, part], positions, wanted)
            carried[:, rows] = torch.where(even[:, None, None], carried[:, rows], spread)

    def states(self, epoch: int) -> list[PathState]:
        """The states after the steps, one for each path.

        With several paths each state has copies of its tensors, since one state may be kept longer than
        others.
        """
        several = len(self.before) > 1
        points = self.points
        if self.units is not None:
            points = points * self.units
            for i, before in enumerate(self.before):  # without the rounding of the products
                points[i, : self.low], points[i, self.high :] = (
                    before.points[: self.low],
                    before.points[self.high :],
                )
        return [
            replace(
                before,
                points=points[i].clone() if several else points[i],
                losses=self.losses[i].clone() if several else self.losses[i],
                slots={
                    name: slot[i].clone() if several else slot[i]
                    for name, slot in self.slots.items()
                },
                epoch=epoch,
                steps=self.steps,
                time=self.times[i],
                gradient_evaluations=before.gradient_evaluations + self.evaluations,
            )
            for i, before in enumerate(self.before)
        ]

    def norms(self) -> list[Norms]:
        """Norms of the normal and tangential parts in the last step, for each path."""
        if not self.lengths:
            return [Norms() for _ in self.before]
        parts = [torch.cat(part, dim=1) for part in zip(*self.lengths, strict=True)]
        return [Norms.of(*part, of_all=self.all_moved) for part in zip(*parts, strict=True)]


def _stacked_units(states: Sequence[PathState]) -> Tensor | None:
    """The units [p, 1, d] of the coordinates of p paths, all of which have units or none."""
    units = [state.units for state in states if state.units is not None]
    return torch.stack(units)[:, None] if units else None


def _density(losses: Tensor, focus: float) -> Tensor:
    """Wanted number of points per unit of length on each segment, [p, n - 1] up to a factor.

    It follows from ``losses`` [p, n] at the points; see ``PathSettings.focus``.
    """
    losses = losses.to(torch.float64)
    base = torch.maximum(losses[:, :1], losses[:, -1:])
    rise = (losses - base) / (losses.amax(1, keepdim=True) - base).clamp_min(1e-30)
    density = 1 + focus * rise.clamp(0, 1).square()
    return 0.5 * (density[:, 1:] + density[:, :-1])
