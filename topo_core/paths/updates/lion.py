"""Lion (Chen et al. 2023): every coordinate moves by the rate, with the sign of an average of directions."""

import torch
from torch import Tensor

from topo_core.paths.updates.bounds import bounded_
from topo_core.paths.updates.protocol import Slots, UpdateNumbers


class Lion:
    """The rate times the sign of an average of directions."""

    def slots(self, points: Tensor) -> Slots:
        """The average."""
        return {"mean": torch.zeros_like(points)}

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
        near, far = numbers.betas
        mean = slots["mean"]
        sign = torch.lerp(normal, mean, near).sign_()
        mean.lerp_(normal, 1 - far)
        return bounded_(torch.mul(sign, rate, out=normal), bound)


LION = Lion()
