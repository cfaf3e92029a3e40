"""Adam whose rate is in distances between points, so that it needs no tuning to the size of the parameters.

A rate of r moves each coordinate of a point by about r times the root mean square by which its coordinates
differ from those of its nearer neighbour. The step is then the same under L → aL + b, and under a common
factor on all coordinates; the root of the mean square gradient is a diagonal preconditioner.
"""

import torch
from torch import Tensor

from topo_core.paths.updates.adam import Adam, averaged_
from topo_core.paths.updates.bounds import bounded_
from topo_core.paths.updates.protocol import Slots, UpdateNumbers


class ScaledAdam(Adam):
    """Adam with a rate relative to the spacing of the points."""

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
        """See ``Update``; ``eps`` is not used, since it would be a scale of the loss."""
        mean, square, count = averaged_(numbers, slots, normal)
        first, second = numbers.betas
        sizes = rate * spacing[..., None] / normal.shape[-1] ** 0.5
        step = sizes / (1 - first**count)
        scale = torch.div(square, 1 - second**count, out=normal).sqrt_()
        ratio = torch.where(scale > 0, mean / scale, 0.0)
        return bounded_(ratio.mul_(step), bound)


SCALED_ADAM = ScaledAdam()
