"""Adam with a rate relative to the distance between points, so it needs no tuning to the size of parameters.

A rate of r moves each coordinate of a point by about r times the root mean square difference of its
coordinates from those of its nearer neighbour. The relative step does not change under L → aL + b, or if all
coordinates are multiplied by a common factor. The root of the mean square gradient is a diagonal
preconditioner.
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
        """See ``Update``; ``eps`` is not used, since the step would then depend on the scale of the loss."""
        mean, square, count = averaged_(numbers, slots, normal)
        first, second = numbers.betas
        sizes = rate * spacing[..., None] / normal.shape[-1] ** 0.5
        step = sizes / (1 - first**count)
        scale = torch.div(square, 1 - second**count, out=normal).sqrt_()
        ratio = torch.where(scale > 0, mean / scale, 0.0)
        return bounded_(ratio.mul_(step), bound)


SCALED_ADAM = ScaledAdam()
