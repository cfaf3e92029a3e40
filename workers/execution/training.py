"""Training a minimum: minibatch gradient descent on one flat point, from an initial point.

As for paths, the method consists of functions from state to state, `begin → train_until → …`, and every state
can be stored as a checkpoint.
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
    """The state of a training. On a CPU, a training that continues from a stored state computes the same
    bits.

    Attributes:
        point: [1, d].
        slots: state of the optimiser, such as moments [1, d], by name.
        epoch: number of epochs done.
        history: (epoch, mean minibatch loss, last learning rate) of each epoch done.
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
        """The state from its `tensors()` and `scalars()`."""
        slots = {n.removeprefix("slots."): t for n, t in tensors.items() if n.startswith("slots.")}
        history = tuple((int(e), float(loss), float(rate)) for e, loss, rate in scalars["history"])
        return cls(
            tensors["point"], slots, int(scalars["epoch"]), history, str(scalars["stop_reason"])
        )


def begin(settings: MinimumSettings, point: Tensor) -> TrainingState:
    """The state before the first epoch, at the initial point `point` [d]."""
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
    """The state after `epoch` epochs, or at the end of the training if that comes first.

    One call and several calls with increasing `epoch` give the same bits on a CPU.

    Args:
        objective: the loss, with its minibatches.
        state: to continue from; it is not changed.
        settings: of the training.
        seed: of the order of minibatches.
        epoch: number of epochs done at the end.
    """
    while state.epoch < min(epoch, settings.epochs) and not state.stop_reason:
        state = _epoch(objective, state, settings, seed)
    return state


def _epoch(
    objective: Objective, state: TrainingState, settings: MinimumSettings, seed: int
) -> TrainingState:
    point, rate = state.point.clone(), 0.0
    slots = {name: rows.clone() for name, rows in state.slots.items()}
    # `displacement` bounds steps by the spacing of neighbouring points; a single point has no neighbours.
    spacing = point.new_ones(1)
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
