"""Any network with two-dimensional convolutions: one point after another, in channels-last memory.

Values are those of the network's own forward pass. Only the memory order differs; the convolution and pooling
kernels are faster in this order. The whole batch is evaluated at once, so batch norm has its usual
statistics. Plain convolutional networks have a faster strategy (`convolutional`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from topo_core.objectives.batching.path_loops import PathLoop
from topo_core.objectives.batching.protocol import EvaluationContext, Network
from topo_core.objectives.functional_network import FunctionalNetwork


def channels_innermost(x: Tensor) -> Tensor:
    """`x` [n, c, h, w] in channels-last memory.

    With a single channel the strides fit both memory orders, and kernels would choose the slow one, so the
    strides are set explicitly.
    """
    if x.shape[1] == 1:
        n, _, h, w = x.shape
        return x.contiguous().as_strided((n, 1, h, w), (h * w, 1, w, 1))
    return x.contiguous(memory_format=torch.channels_last)


class ChannelsLastEvaluator:
    """A Python loop over the points, their images and kernels in channels-last memory."""

    def __init__(self, network: Network) -> None:
        self._call, self._layout = FunctionalNetwork(network.module), network.layout
        self._loss = network.loss
        self.gradients_of_paths = PathLoop(self.gradients)

    def _weights(self, points: Tensor) -> list[dict[str, Tensor]]:
        """Aligned copies of the parameters of each point, by name."""
        copies = {name: aligned(view) for name, view in self._layout.views(points).items()}
        return [{name: rows[k] for name, rows in copies.items()} for k in range(len(points))]

    def gradients(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean losses [k] and gradients [k, d] of `points` [k, d] on a batch."""
        x = _arranged(inputs)
        losses, gradients = points.new_empty(len(points)), torch.empty_like(points)
        for row, own in enumerate(self._weights(points)):
            weights = {name: weight.detach().requires_grad_() for name, weight in own.items()}
            with torch.enable_grad():
                outputs = self._call(weights, x)
                loss = self._loss.mean(outputs, targets)
            slopes = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
            losses[row] = loss.detach()
            for into, gradient in zip(
                self._layout.views(gradients[row]).values(), slopes, strict=True
            ):
                into.copy_(gradient)
        return losses, gradients

    def outputs(
        self, points: Tensor, inputs: Tensor, buffers: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Outputs [k, n, ...]."""
        x = _arranged(inputs)
        outputs = []
        for row, weights in enumerate(self._weights(points)):
            own = {name: value[row] for name, value in (buffers or {}).items()}
            outputs.append(self._call({**weights, **own}, x))
        return torch.stack(outputs)


@dataclass(frozen=True)
class ChannelsLastStrategy:
    """Any network with two-dimensional convolutions."""

    name: ClassVar[str] = "channels_last"
    holds_all_points: ClassVar[bool] = False
    needs_no_trial: ClassVar[bool] = False

    def allows(self, network: Network, situation: EvaluationContext) -> bool:
        """Whether the network has two-dimensional convolutions."""
        del situation
        return any(isinstance(layer, nn.Conv2d) for layer in network.module.modules())

    def make(self, network: Network) -> ChannelsLastEvaluator:
        """The evaluator of a network."""
        return ChannelsLastEvaluator(network)


def _arranged(x: Tensor) -> Tensor:
    return channels_innermost(x) if x.ndim == 4 else x


_ALIGNED = 32
"""Alignment of a parameter in numbers: 32 numbers are 128 bytes in float32."""


def aligned(view: Tensor) -> Tensor:
    """A copy of one parameter of all points [k, *shape], with convolution kernels in channels-last memory.

    GPU kernels read several numbers at once and fail if the address is not aligned accordingly. A view into a
    row of parameters may start at any address.
    """
    k, shape = len(view), view.shape[1:]
    size = shape.numel()
    rows = view.new_empty(k, -(-size // _ALIGNED) * _ALIGNED)[:, :size]
    copy: Tensor = rows.unflatten(1, shape) if len(shape) else rows[:, 0]
    if len(shape) == 4:
        out, inner, height, width = shape
        copy = rows.unflatten(1, (out, height, width, inner)).permute(0, 1, 4, 2, 3)
    return copy.copy_(view)
