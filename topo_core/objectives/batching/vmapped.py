"""Any network, all points at once, by `vmap` over its own forward pass."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from topo_core.objectives.batching.flat_parameters import ParameterLayout


class Functional:
    """`vmap(grad(functional_call))`."""

    def __init__(self, module: nn.Module, layout: ParameterLayout) -> None:
        self._module, self._layout = module, layout

        def loss(row: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
            outputs = functional_call(module, layout.views(row), (inputs,))
            return nn.functional.cross_entropy(outputs, targets)

        def outputs(row: Tensor, buffers: dict[str, Tensor], inputs: Tensor) -> Tensor:
            result = functional_call(module, {**layout.views(row), **buffers}, (inputs,))
            assert isinstance(result, Tensor)
            return result

        # Dropout and the like would need "different"; a deterministic network draws nothing.
        self._gradients = vmap(grad_and_value(loss), in_dims=(0, None, None), randomness="error")
        self._outputs = vmap(outputs, in_dims=(0, 0, None), randomness="error")

    def gradients(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        gradients, losses = self._gradients(points, inputs, targets)
        return losses, gradients

    def logits(
        self, points: Tensor, inputs: Tensor, buffers: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        with torch.no_grad():
            found: Tensor = self._outputs(points, dict(buffers or {}), inputs)
        return found
