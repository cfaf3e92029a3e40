"""Gradient descent with momentum (heavy ball)."""

import torch
from torch import Tensor

from topo_core.paths.updates.bounds import bounded_
from topo_core.paths.updates.protocol import Slots, UpdateNumbers


class Momentum:
    """The rate times a decaying sum of directions."""

    def slots(self, points: Tensor) -> Slots:
        """The velocity."""
        return {"velocity": torch.zeros_like(points)}

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
        del spacing
        velocity = slots["velocity"]
        torch.add(normal, velocity, alpha=numbers.momentum, out=velocity)
        return bounded_(torch.mul(velocity, rate, out=normal), bound)


MOMENTUM = Momentum()
