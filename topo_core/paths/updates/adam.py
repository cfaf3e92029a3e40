"""Adam (Kingma & Ba 2015) on the normal component of the gradient."""

import torch
from torch import Tensor

from topo_core.paths.updates.bounds import bounded_
from topo_core.paths.updates.protocol import Slots, UpdateNumbers


class Adam:
    """An average of the directions, divided by the root of an average of their squares."""

    def slots(self, points: Tensor) -> Slots:
        """The two averages, and the number of steps of each point.

        The numbers differ if only a random subset of points moves in a step, or if points are inserted later.
        """
        row = torch.zeros_like(points)
        return {"mean": row, "square": row.clone(), "count": points.new_zeros(len(points), 1)}

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
        mean, square, count = averaged_(numbers, slots, normal)
        first, second = numbers.betas
        step = rate / (1 - first**count)
        scale = torch.div(square, 1 - second**count, out=normal).sqrt_().add_(numbers.eps)
        return bounded_(torch.div(mean, scale, out=scale).mul_(step), bound)


def averaged_(
    numbers: UpdateNumbers, slots: Slots, normal: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The slots mean, square and count of Adam, updated in place with ``normal`` [k, d]."""
    first, second = numbers.betas
    mean = slots["mean"].lerp_(normal, 1 - first)
    square = slots["square"].mul_(second).addcmul_(normal, normal, value=1 - second)
    return mean, square, slots["count"].add_(1)


ADAM = Adam()
