"""Any network, all points at once, by `vmap` over its own forward pass."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from topo_core.objectives.batching.protocol import EvaluationContext, Network
from topo_core.objectives.functional_network import FunctionalNetwork


class FunctionalEvaluator:
    """An evaluator by `vmap(grad(loss))`, with a second `vmap` over paths."""

    def __init__(self, network: Network) -> None:
        call, layout = FunctionalNetwork(network.module), network.layout

        def loss(row: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
            outputs = call(layout.views(row), inputs)
            return network.loss.mean(outputs, targets)

        def outputs(row: Tensor, buffers: dict[str, Tensor], inputs: Tensor) -> Tensor:
            result = call({**layout.views(row), **buffers}, inputs)
            assert isinstance(result, Tensor)
            return result

        # Random layers such as dropout are refused: losses must be deterministic.
        self._gradients = vmap(grad_and_value(loss), in_dims=(0, None, None), randomness="error")
        self._outputs = vmap(outputs, in_dims=(0, 0, None), randomness="error")
        self._of_paths = vmap(self.gradients, randomness="error")

    def gradients(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean losses [k] and gradients [k, d] of `points` [k, d] on a batch."""
        gradients, losses = self._gradients(points, inputs, targets)
        return losses, gradients

    def gradients_of_paths(
        self, points: Tensor, inputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean losses [p, m] and gradients [p, m, d], each path on its own batch."""
        losses, gradients = self._of_paths(points, inputs, targets)
        return losses, gradients

    def outputs(
        self, points: Tensor, inputs: Tensor, buffers: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Outputs [k, n, ...]."""
        with torch.no_grad():
            outputs: Tensor = self._outputs(points, dict(buffers or {}), inputs)
        return outputs


@dataclass(frozen=True)
class FunctionalStrategy:
    """A strategy for any network whose operations `vmap` supports; the trial of a run rejects other
    networks."""

    name: ClassVar[str] = "functional"
    holds_all_points: ClassVar[bool] = True
    needs_no_trial: ClassVar[bool] = False

    def allows(self, network: Network, situation: EvaluationContext) -> bool:
        """Always true: the trial of a run shows whether `vmap` supports all operations."""
        del network, situation
        return True

    def make(self, network: Network) -> FunctionalEvaluator:
        """The evaluator of a network."""
        return FunctionalEvaluator(network)
