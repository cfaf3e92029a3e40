"""Gradient descent."""

import torch
from torch import Tensor

from topo_core.paths.updates.protocol import Slots, UpdateNumbers


class Sgd:
    """The rate times the direction."""

    def slots(self, points: Tensor) -> Slots:
        """Gradient descent has no slots."""
        del points
        return {}

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
        """See ``Update``."""
        del numbers, slots, spacing
        if bound is None:
            return normal.mul_(rate)
        longest = bound / torch.linalg.vector_norm(normal, dim=-1).clamp_min(1e-30)
        return normal.mul_(longest.clamp_max(rate)[..., None])


SGD = Sgd()
