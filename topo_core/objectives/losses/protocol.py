"""What a loss function is: one value for each example, from a network's outputs and the targets.

The loss of a set of examples is the sum of their values over the sum of their weights. Every weight is 1
unless the loss has class weights or ignores some targets; then the definition is that of PyTorch's
`reduction="mean"` over the whole set. A minibatch is divided by the mean weight of the whole training set,
so that its gradient is an unbiased estimate.
"""

from typing import Protocol, runtime_checkable

from torch import Tensor


class Loss(Protocol):
    """A differentiable loss function of outputs [n, ...] and targets [n, ...]."""

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Values [n] of the examples; the method must be differentiable and work inside `vmap`."""

    def weights(self, targets: Tensor) -> Tensor | None:
        """Weights [n] of the examples; None if all are 1."""

    def mean(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean of `values`, a scalar."""

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sums [k] (float64) of the values, for outputs [k, n, ...] of k networks."""

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """Share of correct predictions of each example [k, n]; None where the loss classifies nothing."""

    def output_size(self, targets: Tensor) -> int:
        """Size of the last axis of the outputs that these targets need.

        Raises:
            ValueError: the loss does not accept such targets; the message is one sentence.
        """

    def counts_classes(self, targets: Tensor) -> bool:
        """Whether `output_size` is a number of classes, of which these targets may lack the last."""

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Check that the shapes of outputs and targets fit.

        Raises:
            ValueError: they do not fit; the message is one sentence.
        """


@runtime_checkable
class ClosedFormLoss(Protocol):
    """A loss whose gradient with respect to the outputs is written out, for the fast strategies."""

    def has_closed_form(self, targets: Tensor) -> bool:
        """Whether the closed form holds for targets of this kind."""

    def column_gradients_(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean losses [k] and their gradients, for outputs [k, c, b] of k points on p paths.

        The k = p m points are in the order of their paths, whose minibatches have the targets
        [p, b, ...]. The memory of the outputs may be overwritten.
        """

    def row_gradients(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of the losses, a scalar, and its gradient, for outputs [b, c] and targets [b, ...]."""

    def column_sums_(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sums [k] (float64) of the losses, for outputs [k, c, b] and targets [b, ...].

        The memory of the outputs may be overwritten.
        """
