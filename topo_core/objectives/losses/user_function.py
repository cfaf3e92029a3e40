"""A loss that a user brings as a function."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from topo_core.objectives.losses.base import PerExampleLoss


@dataclass(frozen=True)
class UserLoss(PerExampleLoss):
    """A loss `function(outputs, targets)` with one value per example.

    Attributes:
        function: maps outputs [n, ...] and targets [n, ...] to values [n]. It must be differentiable, and the
            value of an example must depend on that example alone.
    """

    function: Callable[[Tensor, Tensor], Tensor]

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Values [n].

        Raises:
            ValueError: the function does not return a tensor [n].
        """
        values = self.function(outputs, targets)
        if not isinstance(values, Tensor) or values.shape != outputs.shape[:1]:
            shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(
                f"the loss function returns {shape} for {len(outputs)} examples; it must return one "
                f"value an example, of shape ({len(outputs)},)"
            )
        return values

    def output_size(self, targets: Tensor) -> int:
        """Number of classes of integer targets, else the size of their last axis."""
        if not targets.is_floating_point():
            return int(targets.max()) + 1
        return super().output_size(targets)
