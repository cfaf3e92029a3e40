"""A step without a learning rate: the inverse of the curvature met by the last displacement of each point
(Barzilai & Borwein 1988). It needs exact gradients, and a bound on displacements makes it safe."""

import torch
from torch import Tensor

from topo_core.paths.updates.bounds import bounded_
from topo_core.paths.updates.protocol import Slots, UpdateNumbers

_GROWTH = 2.0  # largest growth of a step at once; used also where the curvature is negative
_FIRST_MOVE = 0.02  # first displacement of the steepest point, in spacings


class Secant:
    """The Barzilai–Borwein step of each point."""

    def slots(self, points: Tensor) -> Slots:
        """The last direction, the last displacement, and the last step."""
        row = torch.zeros_like(points)
        return {"previous": row, "moved": row.clone(), "step": points.new_zeros(len(points), 1)}

    def displacement(
        self,
        numbers: UpdateNumbers,
        slots: Slots,
        normal: Tensor,
        rate: float,
        *,
        spacing: Tensor,
        bound: Tensor | None,
    ) -> Tensor:
        """See ``Update``; the rate is not used."""
        del numbers, rate
        step = _secant_step(slots, normal, spacing)
        slots["step"].copy_(step)
        slots["previous"].copy_(normal)
        moved = bounded_(normal.mul_(step), bound)
        slots["moved"].copy_(moved)
        return moved


def _secant_step(slots: Slots, normal: Tensor, spacing: Tensor) -> Tensor:
    change = normal - slots["previous"]
    met = torch.linalg.vecdot(slots["moved"], change).neg_()[..., None]
    square = torch.linalg.vecdot(change, change)[..., None]
    old = slots["step"]
    norms = torch.linalg.vector_norm(normal, dim=-1)
    steepest = norms.amax(-1, keepdim=True).clamp_min(1e-30)
    first = (_FIRST_MOVE * spacing / steepest)[..., None]
    grown = old * _GROWTH
    step = torch.where((met > 0) & (square > 0), torch.minimum(met / square, grown), grown)
    return torch.where(old > 0, step, first)


SECANT = Secant()
