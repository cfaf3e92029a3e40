"""The loop on the state of a simplex: ``begin_simplices``, ``advance_simplices``, ``simplex_is_finished``.

A step evaluates the gradients at the interior nodes on one minibatch, removes their parts in the
tangent plane of the simplex (spanned by the differences of opposite neighbours), and moves the
nodes; nodes on the boundary stay where the optimised faces have them. Every few steps nodes move
within the tangent plane towards the mean of their neighbours, so that cells stay even. The
simplex with the lowest dense maximum is kept.

A simplex can never be lower than its faces, so one whose maximum is on its boundary is finished.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective, Step
from topo_core.paths.displacements import displacement, empty_slots
from topo_core.simplices.lattice import lattice
from topo_core.simplices.profiles import measured_profiles
from topo_core.simplices.settings import SimplexSettings
from topo_core.simplices.state import SimplexMeasure, SimplexState

_UNCHANGED = 5  # measurements within the tolerance of each other after which the run ends
_DEPENDENT = 1e-6  # share of its length outside the others below which a difference spans nothing
_FIRST_SECANT = 0.02  # first secant displacement of the steepest node, in spacings
_FIRST_MOVE = (
    0.1  # first displacement of the steepest node where the rate is chosen by it, in spacings
)
_EVEN_OUT = 0.5  # share of the distance to the mean of its neighbours that a node moves


def begin_simplices(
    objective: Objective,
    boundaries: Sequence[Tensor],
    floors: Sequence[float],
    dimension: int,
    settings: SimplexSettings,
    interiors: Sequence[Tensor] | None = None,
) -> list[SimplexState]:
    """The states before the first step of r-simplices.

    Args:
        objective: the loss.
        boundaries: of each simplex the boundary nodes [N - I, d], in lattice order.
        floors: of each simplex the highest loss on its faces.
        dimension: r, of all of them.
        settings: of all of them.
        interiors: of each simplex the initial interior nodes [I, d]; harmonic where None.
    """
    if not boundaries:
        return []
    nodes = lattice(dimension, settings.subdivisions)
    fixed = torch.stack(list(boundaries))
    points = fixed.new_empty(len(fixed), len(nodes.coordinates), fixed.shape[2])
    points[:, nodes.boundary] = fixed
    if interiors is None:
        weights = nodes.harmonic.to(fixed)
        points[:, nodes.interior] = torch.einsum("ib,sbd->sid", weights, fixed)
    else:
        points[:, nodes.interior] = torch.stack(list(interiors))
    profiles = measured_profiles(objective, points, nodes, floors, settings)
    method = settings.method(objective.batches)
    states = []
    for nodes_of_one, profile, floor in zip(points, profiles, floors, strict=True):
        start = nodes_of_one.clone()
        maximum, finite = max(profile.maximum, floor), math.isfinite(profile.maximum)
        measure = SimplexMeasure(0, 0.0, 0.0, profile.maximum, maximum, 0.0, 0.0, 0)
        states.append(
            SimplexState(
                points=start,
                slots=empty_slots(method, start[nodes.interior]),
                best=start,
                best_maximum=maximum,
                best_epoch=0,
                floor=floor,
                tolerance=settings.height_tolerance * (maximum - profile.minimum),
                dimension=dimension,
                subdivisions=settings.subdivisions,
                epoch=0,
                steps=0,
                batches=objective.batches,
                time=0.0,
                scale=0.0 if settings.scales(objective.batches) else 1.0,
                gradient_evaluations=0,
                history=(measure,) if finite else (),
                failure="" if finite else "the loss on the starting simplex is not finite",
            )
        )
    return states


def simplex_is_finished(state: SimplexState, settings: SimplexSettings) -> bool:
    """Whether ``advance_simplices`` has nothing left to do."""
    return (
        bool(state.failure)
        or state.epoch >= settings.total_epochs(state.batches)
        or state.best_maximum <= state.floor + state.tolerance
        or _unchanged(state)
    )


def _unchanged(state: SimplexState) -> bool:
    """Whether exact gradients no longer change the simplex, or no longer its maximum."""
    measured = state.history[1:]
    if state.batches != 1 or not measured:
        return False
    if measured[-1].normal_norm == 0:
        return True
    heights = [measure.dense_maximum for measure in measured[-_UNCHANGED:]]
    return len(heights) == _UNCHANGED and max(heights) - min(heights) <= state.tolerance


def advance_simplices(
    objective: Objective,
    states: Sequence[SimplexState],
    settings: SimplexSettings,
    seed: int,
    *,
    until_epoch: int,
) -> list[SimplexState]:
    """The states at ``until_epoch`` (or at the end of the run, or where they failed).

    All simplices have one dimension, and each step is one call of the objective. Advancing in one
    call or in several gives the same bits on a CPU. The result for a simplex does not depend on
    the others, up to how the objective evaluates more or fewer rows.
    """
    advanced = list(states)
    while True:
        unfinished = [
            number
            for number, state in enumerate(advanced)
            if state.epoch < until_epoch and not simplex_is_finished(state, settings)
        ]
        if not unfinished:
            return advanced
        epoch = min(advanced[number].epoch for number in unfinished)
        pack = [number for number in unfinished if advanced[number].epoch == epoch]
        moved = _epoch(objective, [advanced[number] for number in pack], settings, seed)
        for number, state in zip(pack, moved, strict=True):
            advanced[number] = state


def _epoch(
    objective: Objective, states: Sequence[SimplexState], settings: SimplexSettings, seed: int
) -> list[SimplexState]:
    """One epoch for states of the same epoch, then a measurement if it is due."""
    epoch, batches = states[0].epoch, states[0].batches
    sheets = _Sheets(objective, states, settings)
    rate = 0.0
    for batch in range(batches):
        rate = settings.schedule.rate(
            epoch, batch, batches, sheets.method.lr, settings.total_epochs(batches)
        )
        sheets.step(Step(seed, epoch, batch), rate)
    moved = sheets.states(epoch + 1)
    if (epoch + 1) % settings.evaluate_every and epoch + 1 < settings.total_epochs(batches):
        return moved
    points = torch.stack([state.points for state in moved])
    whole = points.isfinite().flatten(1).all(1).tolist()
    points = torch.stack([s.points if ok else s.best for s, ok in zip(moved, whole, strict=True)])
    profiles = measured_profiles(
        objective, points, states[0].nodes, [state.floor for state in states], settings
    )
    return [
        _measured(state, profile.maximum if ok else math.inf, rate, sheets.norms(number))
        for number, (state, profile, ok) in enumerate(zip(moved, profiles, whole, strict=True))
    ]


def _measured(
    state: SimplexState, maximum: float, rate: float, norms: tuple[float, float, float]
) -> SimplexState:
    """The state with one more measurement; its simplex becomes the best if it is the lowest."""
    if not math.isfinite(maximum):
        reason = f"the loss became infinite by epoch {state.epoch}; lower the learning rate"
        return replace(state, points=state.best, failure=reason)
    maximum = max(maximum, state.floor)
    measure = SimplexMeasure(
        epoch=state.epoch,
        rate=rate,
        time=state.time,
        max_loss=norms[0],
        dense_maximum=maximum,
        normal_norm=norms[1],
        tangent_norm=norms[2],
        gradient_evaluations=state.gradient_evaluations,
    )
    state = replace(state, history=(*state.history, measure))
    if maximum < state.best_maximum:
        state = replace(state, best=state.points, best_maximum=maximum, best_epoch=state.epoch)
    return state


class _Sheets:
    """The steps of one epoch with s simplices, on copies that are moved in place."""

    def __init__(
        self, objective: Objective, states: Sequence[SimplexState], settings: SimplexSettings
    ) -> None:
        self.objective, self.before, self.settings = objective, states, settings
        self.nodes = states[0].nodes
        self.method = settings.method(states[0].batches)
        self.points = torch.stack([state.points for state in states])
        names = states[0].slots
        self.slots = {name: torch.cat([state.slots[name] for state in states]) for name in names}
        self.steps, self.time = states[0].steps, states[0].time
        self.scale = torch.tensor(
            [state.scale for state in states], dtype=torch.float64, device=self.points.device
        )
        self.count = len(self.nodes.interior)
        self.losses = self.normal = self.tangent = torch.zeros(len(states), self.count)
        self.still = math.sqrt(torch.finfo(self.points.dtype).eps)

    def step(self, step: Step, rate: float) -> None:
        """Move the interior nodes along their normal components on one minibatch."""
        self.steps += 1
        self.time += rate
        if not self.count:
            return
        inner = self.points[:, self.nodes.interior]
        s, count, width = inner.shape
        losses, gradients = self.objective.gradients(inner.reshape(-1, width), step)
        gradients = gradients.reshape(inner.shape) + self.settings.l2 * inner
        frame = self._frame()
        size = torch.linalg.vector_norm(gradients, dim=2)
        tangent = _within(frame, gradients)
        normal = gradients - tangent
        # Where the simplex fills all of space, only rounding errors are normal to it.
        length = torch.linalg.vector_norm(normal, dim=2)
        gone = length <= self.still * size
        normal[gone] = 0.0
        self.losses, self.normal = losses.reshape(s, count), length.masked_fill(gone, 0.0)
        self.tangent = torch.linalg.vector_norm(tangent, dim=2)
        around = self.points[:, self.nodes.neighbours]  # [s, I, r (r + 1), d]
        spacing = torch.linalg.vector_norm(around - inner[:, :, None], dim=3).amin(2)
        if self.steps == 1:
            self._first(spacing)
        if self.settings.scales(self.before[0].batches):
            normal *= self.scale.to(normal)[:, None, None]
        moved = displacement(
            self.method,
            self.slots,
            normal.reshape(-1, width),
            rate,
            spacing=spacing.flatten(),
            max_move=self.settings.max_move,
        )
        inner = inner - moved.reshape(inner.shape)
        every = self.settings.spread_every
        if every and self.steps % every == 0:
            inner = inner + _EVEN_OUT * _within(frame, around.mean(2) - inner)
        self.points[:, self.nodes.interior] = inner

    def _first(self, spacing: Tensor) -> None:
        """Choose what the first step settles for each simplex: its rate, or its secant step."""
        steepest, node = self.normal.max(1, keepdim=True)
        steepest = steepest.clamp_min(1e-30)
        if self.settings.scales(self.before[0].batches):
            self.scale = (_FIRST_MOVE * spacing.gather(1, node) / steepest)[:, 0].double()
        elif self.method.name == "secant":  # which doubles a step before it takes it
            self.slots["step"] = (0.5 * _FIRST_SECANT * spacing / steepest).reshape(-1, 1)

    def _frame(self) -> list[Tensor]:
        """r orthonormal fields [s, I, d] that span the tangent planes of the simplices.

        Gram-Schmidt, twice, on the differences of opposite neighbours; a difference that depends
        on the others gives a field of zeros.
        """
        pairs = self.nodes.opposite
        frame: list[Tensor] = []
        for axis in range(self.nodes.dimension):
            field = self.points[:, pairs[:, axis, 0]] - self.points[:, pairs[:, axis, 1]]
            before = torch.linalg.vector_norm(field, dim=2, keepdim=True)
            for _ in range(2):
                field = field - _within(frame, field)
            size = torch.linalg.vector_norm(field, dim=2, keepdim=True)
            new = size > _DEPENDENT * before
            frame.append(torch.where(new, field / size.clamp_min(1e-30), 0.0))
        return frame

    def norms(self, number: int) -> tuple[float, float, float]:
        """Highest loss, and root mean squares of the normal and tangential gradients."""
        if not self.count:
            return -math.inf, 0.0, 0.0
        normal, tangent = (
            float(part[number].square().mean().sqrt()) for part in (self.normal, self.tangent)
        )
        return float(self.losses[number].max()), normal, tangent

    def states(self, epoch: int) -> list[SimplexState]:
        """The states after the steps so far."""
        rows = self.count * (self.steps - self.before[0].steps)
        return [
            replace(
                state,
                points=self.points[number].clone(),
                slots={
                    name: slot.reshape(len(self.before), self.count, -1)[number].clone()
                    for name, slot in self.slots.items()
                },
                epoch=epoch,
                steps=self.steps,
                time=self.time,
                scale=float(self.scale[number]),
                gradient_evaluations=state.gradient_evaluations + rows,
            )
            for number, state in enumerate(self.before)
        ]


def _within(frame: Sequence[Tensor], field: Tensor) -> Tensor:
    """The part of ``field`` [s, I, d] in the span of the orthonormal ``frame``."""
    part = torch.zeros_like(field)
    for unit in frame:
        part = part + torch.linalg.vecdot(unit, field)[..., None] * unit
    return part
