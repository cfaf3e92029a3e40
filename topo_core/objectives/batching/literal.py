"""One network after another, by its own forward pass and autograd: the reference for all others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from topo_core.objectives.batching.path_loops import PathLoop
from topo_core.objectives.batching.protocol import EvaluationContext, Network
from topo_core.objectives.functional_network import FunctionalNetwork


class LiteralEvaluator:
    """A Python loop over the points."""

    def __init__(self, network: Network) -> None:
        self._call, self._layout = FunctionalNetwork(network.module), network.layout
        self._loss = network.loss
        self.gradients_of_paths = PathLoop(self.gradients)

    def gradients(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean losses [k] and gradients [k, d] of `points` [k, d] on a batch."""
        losses, gradients = [], []
        for point in points:
            row = point.detach().requires_grad_(True)
            with torch.enable_grad():
                outputs = self._call(self._layout.views(row), inputs)
                loss = self._loss.mean(outputs, targets)
            (gradient,) = torch.autograd.grad(loss, row)
            losses.append(loss.detach())
            gradients.append(gradient)
        return torch.stack(losses), torch.stack(gradients)

    def outputs(
        self, points: Tensor, inputs: Tensor, buffers: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Outputs [k, n, ...]."""
        outputs = []
        for row, point in enumerate(points):
            own = {name: value[row] for name, value in (buffers or {}).items()}
            state = {**self._layout.views(point), **own}
            outputs.append(self._call(state, inputs))
        return torch.stack(outputs)


@dataclass(frozen=True)
class LiteralStrategy:
    """Any network, point after point."""

    name: ClassVar[str] = "literal"
    holds_all_points: ClassVar[bool] = False
    needs_no_trial: ClassVar[bool] = False

    def allows(self, network: Network, situation: EvaluationContext) -> bool:
        """Always true."""
        del network, situation
        return True

    def make(self, network: Network) -> LiteralEvaluator:
        """The evaluator of a network."""
        return LiteralEvaluator(network)
