"""The steps of an epoch: interior nodes descend along the gradient normal to their simplex.

A step evaluates the gradients at the interior nodes on one minibatch, removes their parts in the
tangent plane of the simplex (spanned by the differences of opposite neighbours), and moves the
nodes; nodes on the boundary do not move. Every few steps interior nodes move
within the tangent plane towards the mean of their neighbours, so that cells stay even.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective, Step
from topo_core.paths.displacements import displacement
from topo_core.simplices.settings import SimplexSettings
from topo_core.simplices.state import SimplexState

# relative length of the independent part of a difference below which it counts as dependent
_DEPENDENT = 1e-6
# first displacement of the steepest node with ``secant``, in units of its spacing
_FIRST_SECANT = 0.02
# first displacement of the steepest node if it determines the rate, in units of its spacing
_FIRST_MOVE = 0.1
_EVEN_OUT = 0.5  # fraction of the distance to the mean of its neighbours that a node moves


class MovingSimplices:
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
        # If the simplex has the dimension of the space, the normal part consists of rounding errors.
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
        """Choose the rate or the initial secant step of each simplex, at its first step."""
        steepest, node = self.normal.max(1, keepdim=True)
        steepest = steepest.clamp_min(1e-30)
        if self.settings.scales(self.before[0].batches):
            self.scale = (_FIRST_MOVE * spacing.gather(1, node) / steepest)[:, 0].double()
        elif self.method.name == "secant":  # secant doubles a step whose curvature is unknown
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
