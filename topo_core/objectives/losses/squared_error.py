"""Mean squared error."""

from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.objectives.losses.base import PerExampleLoss, aligned, per_example, require_numbers


@dataclass(frozen=True)
class SquaredError(PerExampleLoss):
    """The mean of (output − target)² over the outputs of an example; targets [n] or [n, m]."""

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Values [n]."""
        outputs, targets = aligned(outputs, targets)
        return per_example((outputs - targets).square())

    def output_size(self, targets: Tensor) -> int:
        """Outputs of an example: as many as it has targets."""
        require_numbers(targets, "mse")
        return super().output_size(targets)

    def has_closed_form(self, targets: Tensor) -> bool:
        """True for targets [n] and [n, m]."""
        return targets.ndim <= 2

    def column_gradients_(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean losses [k] of `outputs` [k, c, b] for `targets` [p, b] or [p, b, c], and their gradient."""
        size, numbers = len(outputs) // len(targets), outputs.shape[1:].numel()
        columns = targets.to(outputs.dtype).view(*targets.shape[:2], -1).transpose(1, 2)
        difference = outputs.unflatten(0, (-1, size)).sub_(columns[:, None]).flatten(0, 1)
        losses = difference.square().sum(dim=(1, 2)) / numbers
        return losses, difference.mul_(2 / numbers)

    def row_gradients(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The summed loss of `outputs` [b, c] for `targets` [b] or [b, c], and its gradient."""
        difference = outputs - targets.to(outputs.dtype).view(len(outputs), -1)
        return difference.square().sum() / outputs.shape[1], difference.mul_(2 / outputs.shape[1])

    def column_sums_(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sums [k] in float64 of `outputs` [k, c, b] for `targets` [b] or [b, c]."""
        columns = targets.to(outputs.dtype).view(outputs.shape[2], -1).T
        squares = outputs.sub_(columns).square_()
        return squares.sum(dim=(1, 2), dtype=torch.float64) / outputs.shape[1]
