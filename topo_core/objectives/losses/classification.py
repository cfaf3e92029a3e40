"""Classification losses other than cross entropy: for binary labels and for log-probabilities."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from topo_core.objectives.losses.base import PerExampleLoss, aligned, per_example


@dataclass(frozen=True)
class BinaryCrossEntropy(PerExampleLoss):
    """Cross entropy of sigmoid(outputs), one label or several an example; targets from 0 to 1.

    Attributes:
        positive_weight: factor of the positive labels.
    """

    positive_weight: float | None = None

    def __post_init__(self) -> None:
        if self.positive_weight is not None and not self.positive_weight > 0:
            raise ValueError(f"loss.positive_weight is {self.positive_weight}; it must be above 0")

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Values [n]: means over the labels of an example."""
        outputs, targets = aligned(outputs, targets)
        weight = None if self.positive_weight is None else outputs.new_tensor(self.positive_weight)
        return per_example(
            functional.binary_cross_entropy_with_logits(
                outputs, targets, reduction="none", pos_weight=weight
            )
        )

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Fraction [k, n] of the labels of each example that are predicted correctly."""
        targets = targets.view(len(targets), -1)
        right = (outputs.reshape(*outputs.shape[:2], -1) > 0) == (targets > 0.5)
        return right.double().mean(2)

    def output_size(self, targets: Tensor) -> int:
        """Outputs of an example: as many as it has labels.

        Raises:
            ValueError: a label is not from 0 to 1.
        """
        numbers = targets.double()
        if not bool(((numbers >= 0) & (numbers <= 1)).all()):
            raise ValueError(
                f"loss bce takes labels from 0 to 1; the targets go from {float(numbers.min()):g} to "
                f"{float(numbers.max()):g}"
            )
        return super().output_size(targets)


@dataclass(frozen=True)
class NegativeLogLikelihood(PerExampleLoss):
    """−output of the target's class: for networks whose outputs are log-probabilities."""

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Values [n]; those of tokens are summed over an example."""
        chosen = outputs.gather(-1, targets[..., None])[..., 0]
        return -(chosen.flatten(1).sum(1) if chosen.ndim > 1 else chosen)

    def weights(self, targets: Tensor) -> Tensor | None:
        """Number of tokens of each example."""
        if targets.ndim == 1:
            return None
        count = float(targets[0].numel())
        return torch.full((len(targets),), count, dtype=torch.float64, device=targets.device)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Whether the largest output is that of the target [k, n]; for tokens the fraction of each
        example."""
        right = outputs.argmax(-1) == targets
        return right if right.ndim == 2 else right.double().flatten(2).mean(2)

    def output_size(self, targets: Tensor) -> int:
        """Number of classes.

        Raises:
            ValueError: the targets are not integers from 0.
        """
        if targets.is_floating_point() or int(targets.min()) < 0:
            raise ValueError("loss nll takes class numbers, integers from 0")
        return int(targets.max()) + 1

    def counts_classes(self, targets: Tensor) -> bool:
        """Always true."""
        del targets
        return True
