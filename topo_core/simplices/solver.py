"""The loop on the state of a simplex: ``init``, ``advance``, ``finished``.

A step evaluates the gradients at the interior nodes on one minibatch, takes out what lies in the
tangent plane of the simplex (spanned by the differences of opposite neighbours), and moves the
nodes; nodes on the boundary stay where the optimised faces have them. Now and then nodes move
within the tangent plane towards the mean of their neighbours, so that cells stay even. The
simplex with the lowest dense maximum is kept.

A simplex can never be lower than its faces, so one whose maximum is on its boundary is finished.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective, Step
from topo_core.paths.updates import Slots, displacement, empty_slots
from topo_core.simplices.lattice import Lattice, lattice
from topo_core.simplices.profiles import SimplexProfile, simplex_profiles
from topo_core.simplices.settings import SimplexSettings

_RESTS = 5  # measurements without a change before the run ends
_FLAT = 1e-6  # a difference of neighbours with less of its length outside the others spans nothing
_FIRST_SECANT = 0.02  # first secant displacement of the steepest node, in spacings
_FIRST_MOVE = 0.1  # the same where the rate is chosen by it
_RELAX = 0.5  # of the way to the mean of the neighbours


@dataclass(frozen=True)
class SimplexMeasure:
    """What was measured at the end of one epoch.

    Attributes:
        epoch: epochs done.
        rate: learning rate of the last step.
        time: sum of the learning rates of all steps.
        max_loss: highest loss at an interior node, on the last minibatch.
        dense_maximum: highest loss on the simplex.
        normal_norm, tangent_norm: root mean square over the interior nodes of the two parts of
            the gradient in the last step.
        gradient_evaluations: rows whose gradient was evaluated so far.
    """

    epoch: int
    rate: float
    time: float
    max_loss: float
    dense_maximum: float
    normal_norm: float
    tangent_norm: float
    gradient_evaluations: int


@dataclass(frozen=True)
class SimplexState:
    """All that is needed to go on, bit for bit.

    Attributes:
        points: [N, d], the nodes of the lattice in its order, boundary included. Never written to.
        slots: of the optimiser, [I, c] each, one row an interior node.
        best: [N, d], the simplex with the lowest dense maximum so far.
        best_maximum: that maximum.
        best_epoch: when it was seen.
        floor: highest loss on the faces; the simplex cannot be lower.
        tolerance: a maximum this close to ``floor`` is on the boundary.
        dimension: r.
        subdivisions: m.
        epoch: epochs done.
        steps: steps done.
        batches: minibatches in an epoch.
        time: sum of the learning rates.
        scale: factor on the gradients, where the settings leave the rate open; 0 before the first
            step.
        gradient_evaluations: rows whose gradient was evaluated.
        history: measurements, oldest first.
        failure: why the optimisation cannot go on; empty while it can.
    """

    points: Tensor
    slots: Slots
    best: Tensor
    best_maximum: float
    best_epoch: int
    floor: float
    tolerance: float
    dimension: int
    subdivisions: int
    epoch: int
    steps: int
    batches: int
    time: float
    scale: float
    gradient_evaluations: int
    history: tuple[SimplexMeasure, ...]
    failure: str

    @property
    def nodes(self) -> Lattice:
        """The lattice of ``points``."""
        return lattice(self.dimension, self.subdivisions)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors, all 2-D and of the dtype of the points."""
        slots = {f"slots.{name}": rows for name, rows in self.slots.items()}
        return {"points": self.points, "best": self.best, **slots}

    def scalars(self) -> dict[str, Any]:
        """Everything else, as JSON can write it."""
        values = {
            name: getattr(self, name)
            for name in self.__dataclass_fields__
            if name not in ("points", "slots", "best", "history")
        }
        return {**values, "history": [asdict(measure) for measure in self.history]}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> "SimplexState":
        """The state that ``tensors()`` and ``scalars()`` came from."""
        prefix = "slots."
        slots = {
            name[len(prefix) :]: rows for name, rows in tensors.items() if name.startswith(prefix)
        }
        history = tuple(SimplexMeasure(**measure) for measure in scalars["history"])
        rest = {**scalars, "history": history}
        return cls(points=tensors["points"], best=tensors["best"], slots=slots, **rest)


def init(
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
        boundaries: of each simplex the places [N - I, d] of its boundary nodes, in lattice order.
        floors: of each simplex the highest loss on its faces.
        dimension: r, of all of them.
        settings: of all of them.
        interiors: of each simplex the first places [I, d] of the other nodes; harmonic where None.
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
    profiles = profiles_of(objective, points, nodes, floors, settings)
    method = settings.method(objective.batches)
    states = []
    for place, profile, floor in zip(points, profiles, floors, strict=True):
        start = place.clone()
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


def profiles_of(
    objective: Objective,
    points: Tensor,
    nodes: Lattice,
    floors: Sequence[float],
    settings: SimplexSettings,
) -> list[SimplexProfile]:
    """``simplex_profiles`` of ``points`` [s, N, d], as ``settings`` wants them measured."""
    return simplex_profiles(
        objective,
        points,
        nodes,
        grid=settings.grid,
        tolerance=settings.height_tolerance,
        floors=floors,
    )


def finished(state: SimplexState, settings: SimplexSettings) -> bool:
    """Whether ``advance`` has nothing left to do."""
    return (
        bool(state.failure)
        or state.epoch >= settings.total_epochs(state.batches)
        or state.best_maximum <= state.floor + state.tolerance
        or _at_rest(state)
    )


def _at_rest(state: SimplexState) -> bool:
    """Whether exact gradients no longer change the simplex, or no longer its maximum."""
    measured = state.history[1:]
    if state.batches != 1 or not measured:
        return False
    if measured[-1].normal_norm == 0:
        return True
    heights = [measure.dense_maximum for measure in measured[-_RESTS:]]
    return len(heights) == _RESTS and max(heights) - min(heights) <= state.tolerance


def advance(
    objective: Objective,
    state: SimplexState,
    settings: SimplexSettings,
    seed: int,
    *,
    until_epoch: int,
) -> SimplexState:
    """The state at ``until_epoch`` (or at the end of the run, or where it failed).

    Going there in one call or in several gives the same bits on a CPU.
    """
    return advance_together(objective, [state], settings, seed, until_epoch=until_epoch)[0]


def advance_together(
    objective: Objective,
    states: Sequence[SimplexState],
    settings: SimplexSettings,
    seed: int,
    *,
    until_epoch: int,
) -> list[SimplexState]:
    """``advance`` for simplices of one dimension, with one call of the objective a step.

    No simplex depends on its company, up to how the objective evaluates more or fewer rows.
    """
    found = list(states)
    while True:
        open_ = [
            place
            for place, state in enumerate(found)
            if state.epoch < until_epoch and not finished(state, settings)
        ]
        if not open_:
            return found
        epoch = min(found[place].epoch for place in open_)
        pack = [place for place in open_ if found[place].epoch == epoch]
        moved = _epoch(objective, [found[place] for place in pack], settings, seed)
        for place, state in zip(pack, moved, strict=True):
            found[place] = state


def _epoch(
    objective: Objective, states: Sequence[SimplexState], settings: SimplexSettings, seed: int
) -> list[SimplexState]:
    """One pass over the minibatches with states of one epoch, then a measurement if it is due."""
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
    profiles = profiles_of(
        objective, points, states[0].nodes, [state.floor for state in states], settings
    )
    return [
        _measured(state, profile.maximum if ok else math.inf, rate, sheets.norms(place))
        for place, (state, profile, ok) in enumerate(zip(moved, profiles, whole, strict=True))
    ]


def _measured(
    state: SimplexState, maximum: float, rate: float, norms: tuple[float, float, float]
) -> SimplexState:
    """The state with one more measurement, and with its simplex as the best if it is."""
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
        # What is left by rounding where the simplex fills all of space is no direction.
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
            inner = inner + _RELAX * _within(frame, around.mean(2) - inner)
        self.points[:, self.nodes.interior] = inner

    def _first(self, spacing: Tensor) -> None:
        """What the first step decides, for each simplex alone."""
        steepest, place = self.normal.max(1, keepdim=True)
        steepest = steepest.clamp_min(1e-30)
        if self.settings.scales(self.before[0].batches):
            self.scale = (_FIRST_MOVE * spacing.gather(1, place) / steepest)[:, 0].double()
        elif self.method.name == "secant":  # which doubles a step before it takes it
            self.slots["step"] = (0.5 * _FIRST_SECANT * spacing / steepest).reshape(-1, 1)

    def _frame(self) -> list[Tensor]:
        """r orthonormal fields [s, I, d] that span the tangent planes: QR of the differences.

        Gram and Schmidt, twice; a direction that adds nothing to the others is left out as 0.
        """
        pairs = self.nodes.opposite
        frame: list[Tensor] = []
        for axis in range(self.nodes.dimension):
            field = self.points[:, pairs[:, axis, 0]] - self.points[:, pairs[:, axis, 1]]
            before = torch.linalg.vector_norm(field, dim=2, keepdim=True)
            for _ in range(2):
                field = field - _within(frame, field)
            size = torch.linalg.vector_norm(field, dim=2, keepdim=True)
            new = size > _FLAT * before
            frame.append(torch.where(new, field / size.clamp_min(1e-30), 0.0))
        return frame

    def norms(self, place: int) -> tuple[float, float, float]:
        """Highest loss, and root mean squares of the normal and tangential gradients."""
        if not self.count:
            return -math.inf, 0.0, 0.0
        normal, tangent = (
            float(part[place].square().mean().sqrt()) for part in (self.normal, self.tangent)
        )
        return float(self.losses[place].max()), normal, tangent

    def states(self, epoch: int) -> list[SimplexState]:
        rows = self.count * (self.steps - self.before[0].steps)
        return [
            replace(
                state,
                points=self.points[place].clone(),
                slots={
                    name: slot.reshape(len(self.before), self.count, -1)[place].clone()
                    for name, slot in self.slots.items()
                },
                epoch=epoch,
                steps=self.steps,
                time=self.time,
                scale=float(self.scale[place]),
                gradient_evaluations=state.gradient_evaluations + rows,
            )
            for place, state in enumerate(self.before)
        ]


def _within(frame: Sequence[Tensor], field: Tensor) -> Tensor:
    """The part of ``field`` [s, I, d] in the span of the orthonormal ``frame``."""
    part = torch.zeros_like(field)
    for unit in frame:
        part = part + torch.linalg.vecdot(unit, field)[..., None] * unit
    return part
