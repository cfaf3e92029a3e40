"""Training a minimum: gradient descent on one flat point, from its initial weights to convergence.

The method is apart from its state, as for paths: `begin → train_until → …`, and every state is a
checkpoint.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective, Step
from topo_core.paths.displacements import displacement, empty_slots
from topo_core.paths.updates.protocol import Slots
from workers.tasks.minimum_settings import MinimumSettings


@dataclass(frozen=True)
class TrainingState:
    """A checkpoint: training continues from it bit for bit.

    Attributes:
        point: [1, d].
        slots: of the optimiser.
        epoch: epochs done.
        history: (epoch, mean minibatch loss, last rate) of each epoch done.
        stop_reason: `epochs`, `loss` or `diverged` once training has ended; empty before.
    """

    point: Tensor
    slots: Slots
    epoch: int = 0
    history: tuple[tuple[int, float, float], ...] = ()
    stop_reason: str = ""

    def tensors(self) -> dict[str, Tensor]:
        return {"point": self.point, **{f"slots.{name}": s for name, s in self.slots.items()}}

    def scalars(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "history": [list(row) for row in self.history],
            "stop_reason": self.stop_reason,
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> "TrainingState":
        """The state that `tensors()` and `scalars()` came from."""
        slots = {n.removeprefix("slots."): t for n, t in tensors.items() if n.startswith("slots.")}
        history = tuple((int(e), float(loss), float(rate)) for e, loss, rate in scalars["history"])
        return cls(
            tensors["point"], slots, int(scalars["epoch"]), history, str(scalars["stop_reason"])
        )


def begin(settings: MinimumSettings, point: Tensor) -> TrainingState:
    """The state before the first epoch, at initial weights `point` [d]."""
    row = point.detach()[None].clone()
    reason = "" if settings.epochs else "epochs"
    return TrainingState(row, empty_slots(settings.optimizer, row), stop_reason=reason)


def train_until(
    objective: Objective,
    state: TrainingState,
    settings: MinimumSettings,
    seed: int,
    *,
    epoch: int,
) -> TrainingState:
    """The state after `epoch` epochs, or where training stopped before.

    Going there in one call or in several gives the same bits on a CPU.
    """
    while state.epoch < min(epoch, settings.epochs) and not state.stop_reason:
        state = _epoch(objective, state, settings, seed)
    return state


def _epoch(
    objective: Objective, state: TrainingState, settings: MinimumSettings, seed: int
) -> TrainingState:
    point, rate = state.point.clone(), 0.0
    slots = {name: rows.clone() for name, rows in state.slots.items()}
    spacing = point.new_ones(1)  # a point alone has no neighbours and no bound on its steps
    losses = []
    for batch in range(objective.batches):
        step = Step(seed, state.epoch, batch)
        rate = settings.schedule.rate(
            state.epoch, batch, objective.batches, settings.optimizer.lr, settings.epochs
        )
        loss, gradient = objective.gradients(point, step)
        if settings.l2:
            gradient = torch.add(gradient, point, alpha=settings.l2)
        point -= displacement(
            settings.optimizer, slots, gradient, rate, spacing=spacing, max_move=None
        )
        losses.append(loss)
    mean = float(torch.cat(losses).double().mean())
    done = state.epoch + 1
    state = replace(
        state,
        point=point,
        slots=slots,
        epoch=done,
        history=(*state.history, (done, mean, rate)),
    )
    return replace(state, stop_reason=_stop_reason(state, settings, mean))


def _stop_reason(state: TrainingState, settings: MinimumSettings, loss: float) -> str:
    if not (math.isfinite(loss) and bool(state.point.isfinite().all())):
        return "diverged"
    if settings.stop_loss is not None and loss <= settings.stop_loss:
        return "loss"
    return "epochs" if state.epoch == settings.epochs else ""
