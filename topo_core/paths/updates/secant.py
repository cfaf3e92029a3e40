"""A step without a learning rate: the inverse of the curvature along the last displacement of each point
(Barzilai & Borwein 1988). It needs exact gradients; a bound on displacements prevents too long steps."""

import torch
from torch import Tensor

from topo_core.critical_points.barzilai_borwein import secant_steps
from topo_core.paths.updates.bounds import bounded_
from topo_core.paths.updates.protocol import Slots, UpdateNumbers

# first displacement of the point with the largest gradient, in units of its spacing
_FIRST_MOVE = 0.02


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
        old = slots["step"]
        # Displacements are subtracted, so the last move is -moved.
        step = secant_steps(-slots["moved"], normal - slots["previous"], old)
        step = torch.where(old > 0, step, _first_steps(normal, spacing))
        slots["step"].copy_(step)
        slots["previous"].copy_(normal)
        moved = bounded_(normal.mul_(step), bound)
        slots["moved"].copy_(moved)
        return moved


def _first_steps(normal: Tensor, spacing: Tensor) -> Tensor:
    """Steps [k, 1] before any curvature is known: the steepest point moves a fraction of its ``spacing``
    [k]."""
    norms = torch.linalg.vector_norm(normal, dim=-1)
    # A point without a finite gradient must not decide the steps of all others.
    norms = torch.where(norms.isfinite(), norms, 0.0)
    steepest = norms.amax(-1, keepdim=True).clamp_min(1e-30)
    steps: Tensor = (_FIRST_MOVE * spacing / steepest)[..., None]
    return steps


SECANT = Secant()
