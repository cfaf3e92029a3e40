"""Any network with two-dimensional convolutions on a CPU: one point after another, in channels-last memory.

Values are those of the network's own forward pass; only the order of the numbers in memory differs, for
which the convolution and pooling kernels are faster. The whole batch goes through at once, so batch norm
keeps its meaning. Plain convolutional networks have a faster way (`convolutional`).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from topo_core.strategies.parameters import ParameterLayout


def has_convolutions(module: nn.Module) -> bool:
    """Whether channels-last memory can make a difference."""
    return any(isinstance(layer, nn.Conv2d) for layer in module.modules())


def channels_innermost(x: Tensor) -> Tensor:
    """`x` [n, c, h, w] in channels-last memory.

    The strides of a single channel pass for both orders, and kernels would take the slow one: they are
    written out.
    """
    if x.shape[1] == 1:
        n, _, h, w = x.shape
        return x.contiguous().as_strided((n, 1, h, w), (h * w, 1, w, 1))
    return x.contiguous(memory_format=torch.channels_last)


class ChannelsLast:
    """A Python loop over the points, their images and kernels in channels-last memory."""

    def __init__(self, module: nn.Module, layout: ParameterLayout) -> None:
        self._module, self._layout = module, layout

    def _weights(self, point: Tensor) -> dict[str, Tensor]:
        return {name: _arranged(view) for name, view in self._layout.views(point).items()}

    def gradients(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        x = _arranged(inputs)
        losses, gradients = points.new_empty(len(points)), torch.empty_like(points)
        for row, point in enumerate(points):
            weights = {n: w.detach().requires_grad_() for n, w in self._weights(point).items()}
            with torch.enable_grad():
                outputs = functional_call(self._module, weights, (x,))
                loss = nn.functional.cross_entropy(outputs, targets)
            found = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
            losses[row] = loss.detach()
            for into, gradient in zip(
                self._layout.views(gradients[row]).values(), found, strict=True
            ):
                into.copy_(gradient)
        return losses, gradients

    def logits(
        self, points: Tensor, inputs: Tensor, buffers: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        x = _arranged(inputs)
        outputs = []
        for row, point in enumerate(points):
            own = {name: value[row] for name, value in (buffers or {}).items()}
            outputs.append(functional_call(self._module, {**self._weights(point), **own}, (x,)))
        return torch.stack(outputs)


def _arranged(x: Tensor) -> Tensor:
    return channels_innermost(x) if x.ndim == 4 else x
