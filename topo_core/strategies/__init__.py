"""Ways to evaluate k copies of one network on one batch; all give the same numbers up to rounding.

A strategy sees flat parameters [k, d] and one batch of data. Which of them is fastest depends on the
network and the device, so it is chosen once for a run, by a timed probe (`topo_core.stacked`).
"""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from topo_core.strategies.parameters import ParameterLayout


class Strategy(Protocol):
    """k copies of a network at once."""

    def gradients(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean losses [k] and gradients [k, d] of `points` [k, d] on a batch."""

    def logits(
        self, points: Tensor, inputs: Tensor, buffers: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Outputs [k, n, classes]; `buffers` [k, ...] stand in for those of the module."""


__all__ = ["ParameterLayout", "Strategy"]
