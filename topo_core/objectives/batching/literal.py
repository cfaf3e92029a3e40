"""One network after another, by its own forward pass and autograd: the reference for all others."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from topo_core.objectives.batching.flat_parameters import ParameterLayout


class Literal:
    """A Python loop over the points."""

    def __init__(self, module: nn.Module, layout: ParameterLayout) -> None:
        self._module, self._layout = module, layout

    def gradients(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        losses, gradients = [], []
        for point in points:
            row = point.detach().requires_grad_(True)
            with torch.enable_grad():
                outputs = functional_call(self._module, self._layout.views(row), (inputs,))
                loss = nn.functional.cross_entropy(outputs, targets)
            (gradient,) = torch.autograd.grad(loss, row)
            losses.append(loss.detach())
            gradients.append(gradient)
        return torch.stack(losses), torch.stack(gradients)

    def logits(
        self, points: Tensor, inputs: Tensor, buffers: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        outputs = []
        for row, point in enumerate(points):
            own = {name: value[row] for name, value in (buffers or {}).items()}
            state = {**self._layout.views(point), **own}
            outputs.append(functional_call(self._module, state, (inputs,)))
        return torch.stack(outputs)
