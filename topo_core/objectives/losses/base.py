"""The base class of loss functions: everything that follows from the values of the examples."""

import torch
from torch import Tensor, vmap


class PerExampleLoss:
    """A loss that is defined by `values` alone; weights are 1, and means and sums follow."""

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Values [n] of the examples."""
        raise NotImplementedError

    def weights(self, targets: Tensor) -> Tensor | None:
        """Weights [n] of the examples; None if all are 1."""
        del targets
        return None

    def mean(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean of the values."""
        return self.values(outputs, targets).mean()

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sums [k] in float64, for outputs [k, n, ...]."""
        values: Tensor = vmap(self.values, in_dims=(0, None))(outputs, targets)
        return values.double().sum(dim=1)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """Share of correct predictions of each example [k, n]; None: the loss classifies nothing."""
        del outputs, targets
        return None

    def output_size(self, targets: Tensor) -> int:
        """Outputs of an example: as many as it has targets."""
        return targets.shape[-1] if targets.ndim > 1 else 1

    def counts_classes(self, targets: Tensor) -> bool:
        """Whether `output_size` is a number of classes, of which these targets may lack the last."""
        del targets
        return False

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Check that the shapes of outputs and targets fit.

        Raises:
            ValueError: they do not fit.
        """
        self.values(outputs, targets)


def per_example(values: Tensor) -> Tensor:
    """Means [n] over all axes but the first."""
    return values.flatten(1).mean(dim=1) if values.ndim > 1 else values


def aligned(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs and numeric targets of equal shape; [n] is read as [n, 1].

    Raises:
        ValueError: their shapes differ otherwise.
    """
    targets = targets.to(outputs.dtype)
    if targets.ndim + 1 == outputs.ndim and outputs.shape[-1] == 1:
        targets = targets[..., None]
    elif outputs.ndim + 1 == targets.ndim and targets.shape[-1] == 1:
        outputs = outputs[..., None]
    if outputs.shape != targets.shape:
        raise ValueError(
            f"outputs of shape {tuple(outputs.shape)} do not fit targets of shape "
            f"{tuple(targets.shape)}"
        )
    return outputs, targets


def require_numbers(targets: Tensor, name: str) -> None:
    """Check that targets are real numbers; `name` is the loss in the message.

    Raises:
        ValueError: the targets are complex or boolean.
    """
    if targets.is_complex() or targets.dtype == torch.bool:
        raise ValueError(f"loss {name} takes targets that are numbers, not {targets.dtype}")
