"""What strategies do."""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor


class Strategy(Protocol):
    """k copies of a network at once."""

    def gradients(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean losses [k] and gradients [k, d] of `points` [k, d] on a batch."""

    def logits(
        self, points: Tensor, inputs: Tensor, buffers: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Outputs [k, n, classes]; `buffers` [k, ...] stand in for those of the module."""


class PathsStrategy(Protocol):
    """Copies of a network on several paths, each path on a batch of its own."""

    def gradients(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean losses [p, m] and gradients [p, m, d] of `points` [p, m, d].

        `inputs` [p, b, ...] and `targets` [p, b]: the batch of each path.
        """
