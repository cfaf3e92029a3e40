"""Regression losses other than the squared error: absolute error, Huber loss and Poisson loss."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from topo_core.objectives.losses.base import PerExampleLoss, aligned, per_example, require_numbers


@dataclass(frozen=True)
class AbsoluteError(PerExampleLoss):
    """The mean of |output − target| over the outputs of an example."""

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Values [n]."""
        outputs, targets = aligned(outputs, targets)
        return per_example((outputs - targets).abs())

    def output_size(self, targets: Tensor) -> int:
        """Outputs of an example: as many as it has targets."""
        require_numbers(targets, "mae")
        return super().output_size(targets)


@dataclass(frozen=True)
class Huber(PerExampleLoss):
    """½ e² where |e| ≤ δ, else δ (|e| − ½ δ) (Huber 1964); the mean over the outputs of an example.

    Attributes:
        delta: error at which the loss becomes linear, in units of the target.
    """

    delta: float = 1.0

    def __post_init__(self) -> None:
        if not self.delta > 0:
            raise ValueError(f"loss.delta is {self.delta}; it must be above 0")

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Values [n]."""
        outputs, targets = aligned(outputs, targets)
        return per_example(
            functional.huber_loss(outputs, targets, reduction="none", delta=self.delta)
        )

    def output_size(self, targets: Tensor) -> int:
        """Outputs of an example: as many as it has targets."""
        require_numbers(targets, "huber")
        return super().output_size(targets)


@dataclass(frozen=True)
class Poisson(PerExampleLoss):
    """Negative log likelihood of counts, e^output − target · output, without the constant log(target!).

    Attributes:
        log_input: whether outputs are the logarithms of the rates; else they are the rates.
    """

    log_input: bool = True

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Values [n]."""
        outputs, targets = aligned(outputs, targets)
        return per_example(
            functional.poisson_nll_loss(
                outputs, targets, log_input=self.log_input, reduction="none"
            )
        )

    def output_size(self, targets: Tensor) -> int:
        """Outputs of an example: as many as it has targets."""
        require_numbers(targets, "poisson")
        if bool((targets < 0).any()):
            raise ValueError("loss poisson takes counts, 0 or more; some targets are negative")
        return super().output_size(targets)
