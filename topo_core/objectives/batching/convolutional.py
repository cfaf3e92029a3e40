"""Plain convolutional networks: one point after another, with a hand-written backward pass.

Batching over points does not speed up convolutions: grouped kernels are slower than separate ones, and the
activations of one point already exceed the cache of a CPU. The following measures are faster:

* The first layer is a product with image patches, which are computed once for all points (`image_patches`).
* ReLU is applied after max-pooling, where there are fewer values (`convolutional_layers`).
* On a CPU, tensors are in channels-last memory, in which max-pooling is vectorised (ten times as fast). The
  batch is split into parts whose gradients are summed: small parts stay in the cache, large parts need fewer
  calls.
* On a GPU the whole batch is evaluated at once, and gradients of a pool are written directly to their
  positions.

The best size of a part, memory order and kernel for the patches depend on the processor. Each strategy is one
combination of them, and the timed trial of a run chooses the fastest. The backward pass calls the same
kernels as autograd.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from topo_core.objectives.batching.channels_last import aligned
from topo_core.objectives.batching.convolutional_layers import (
    Convolution,
    Pair,
    plan_of,
    window,
    windows_are_apart,
)
from topo_core.objectives.batching.image_patches import Patches, Rows, windows
from topo_core.objectives.batching.path_loops import PathLoop
from topo_core.objectives.batching.protocol import EvaluationContext, Network
from topo_core.objectives.losses.protocol import ClosedFormLoss

_WIDEST_PATCH = 128  # numbers in a patch above which the first layer is evaluated as a convolution


class ConvolutionalEvaluator:
    """An evaluator for networks that `plan_of` recognises, with a loss in closed form.

    Args:
        network: the network.
        micro_batch: number of examples whose activations are in memory at once; None for all.
        patches: how the first layer is computed, and the memory order.

    Raises:
        ValueError: `plan_of` does not recognise the network, or the loss has no closed form.
    """

    def __init__(
        self,
        network: Network,
        *,
        micro_batch: int | None = None,
        patches: Patches | None = None,
    ) -> None:
        plan = plan_of(network.module)
        if plan is None or not isinstance(network.loss, ClosedFormLoss):
            raise ValueError(
                "the network is not plainly convolutional, or its loss has no closed form"
            )
        self._plan, self._layout, self._loss = plan, network.layout, network.loss
        self.gradients_of_paths = PathLoop(self.gradients)
        self._micro_batch, self._patches = micro_batch, patches or Rows()
        first = plan.convolutions[0].layer
        self._as_product = first.weight[0].numel() <= _WIDEST_PATCH and first.dilation == (1, 1)

    def gradients(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean losses [k] and gradients [k, d] of `points` [k, d] on a batch."""
        losses = points.new_zeros(len(points))
        gradients = torch.zeros_like(points)
        weights = self._weights(points)
        into = [_in_pairs(self._layout.views(gradient).values()) for gradient in gradients]
        size = self._micro_batch or len(inputs)
        for x, y in zip(inputs.split(size), targets.split(size), strict=True):
            start = self._start(x)
            for k in range(len(points)):
                forward = self._forward(weights[k], start)
                total, delta = self._loss.row_gradients(forward.outputs, y)
                losses[k] += total / len(inputs)
                self._backward(weights[k], into[k], forward, delta.div_(len(inputs)))
        return losses, gradients

    def outputs(
        self, points: Tensor, inputs: Tensor, buffers: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Outputs [k, n, c]; such networks have no buffers."""
        weights = self._weights(points)
        parts = []
        for x in inputs.split(self._micro_batch or len(inputs)):
            start = self._start(x)
            parts.append(torch.stack([self._forward(w, start).outputs for w in weights]))
        return torch.cat(parts, dim=1)

    def _weights(self, points: Tensor) -> list[list[tuple[Tensor, Tensor]]]:
        """(weight, bias) of each layer, for each point; on a GPU convolution kernels are copied to be
        aligned."""
        views = list(self._layout.views(points).values())
        if points.is_cuda:
            views = [aligned(view) if view.ndim == 5 else view for view in views]
        return [_in_pairs(row) for row in zip(*views, strict=True)]

    def _start(self, x: Tensor) -> "_Start":
        """The input of the first layer for images `x` [n, c, h, w], shared by all points."""
        if not self._as_product:
            return _Start(self._patches.arranged(x), (0, 0))
        first = self._plan.convolutions[0]
        fields = windows(first.layer, first.padding, x)
        return _Start(self._patches.laid_out(fields), (fields.shape[2], fields.shape[3]))

    def _forward(self, weights: list[tuple[Tensor, Tensor]], start: "_Start") -> "_Forward":
        kept: list[_Kept] = []
        x = start.data
        for number, convolution in enumerate(self._plan.convolutions):
            weight, bias = weights[number]
            layer, pool = convolution.layer, convolution.pool
            if number == 0 and self._as_product:
                matrix = torch.cat([weight.flatten(1), bias[:, None]], dim=1)
                out = self._patches.outputs(matrix, x, start.size)
            else:
                out = torch.conv2d(
                    x,
                    self._patches.arranged(weight),
                    bias,
                    layer.stride,
                    convolution.padding,
                    layer.dilation,
                )
            before, chosen = x, None
            convolved = out
            if pool is not None:
                out, chosen = torch.ops.aten.max_pool2d_with_indices(convolved, *window(pool))
            if convolution.relu:
                out = out.relu_()
            kept.append(_Kept(before, convolved if pool is not None else None, chosen, out))
            x = out
        rows = [x.flatten(1)]
        for weight, bias in weights[len(kept) : -1]:
            rows.append(torch.addmm(bias, rows[-1], weight.T).relu_())
        weight, bias = weights[-1]
        return _Forward(start, kept, rows, torch.addmm(bias, rows[-1], weight.T))

    def _backward(
        self,
        weights: list[tuple[Tensor, Tensor]],
        into: list[tuple[Tensor, Tensor]],
        forward: "_Forward",
        delta: Tensor,
    ) -> None:
        """Add the gradients of one part of the batch to `into`; `delta` is the gradient of its outputs."""
        count = len(forward.kept)
        for number in range(len(weights) - 1, count - 1, -1):
            below = forward.rows[number - count]
            into[number][0].addmm_(delta.T, below)
            into[number][1].add_(delta.sum(0))
            delta = delta @ weights[number][0]
            if number > count:
                delta = torch.ops.aten.threshold_backward(delta, below, 0)
        delta = self._patches.arranged(delta.view_as(forward.kept[-1].out))
        for number in range(count - 1, -1, -1):
            convolution, kept = self._plan.convolutions[number], forward.kept[number]
            if convolution.relu:
                delta = torch.ops.aten.threshold_backward(delta, kept.out, 0)
            if convolution.pool is not None:
                delta = _pool_backward(delta, convolution.pool, kept)
            if number == 0 and self._as_product:
                slope = self._patches.slope(forward.start.data, delta)
                into[0][0].flatten(1).add_(slope[:, :-1])
                into[0][1].add_(slope[:, -1])
            else:
                delta = self._convolution_backward(
                    convolution, weights[number][0], into[number], kept.before, delta, number > 0
                )

    def _convolution_backward(
        self,
        convolution: Convolution,
        weight: Tensor,
        into: tuple[Tensor, Tensor],
        before: Tensor,
        delta: Tensor,
        inputs_too: bool,
    ) -> Tensor:
        layer, padding = convolution.layer, convolution.padding
        below, slope, bias = torch.ops.aten.convolution_backward(
            delta,
            before,
            self._patches.arranged(weight),
            [len(weight)],
            layer.stride,
            padding,
            layer.dilation,
            False,
            [0, 0],
            1,
            [inputs_too, True, True],
        )
        into[0].add_(slope)
        into[1].add_(bias)
        assert below is None or isinstance(below, Tensor)
        return delta if below is None else below


@dataclass(frozen=True)
class ConvolutionalStrategy:
    """Networks that `plan_of` knows, with a loss in closed form.

    Attributes:
        name: name of the strategy.
        device: kind of device for which the strategy is meant, cpu or cuda.
        micro_batch, patches: see `ConvolutionalEvaluator`.
    """

    name: str
    device: str
    micro_batch: int | None = None
    patches: Patches | None = None

    holds_all_points: ClassVar[bool] = False
    needs_no_trial: ClassVar[bool] = False

    def allows(self, network: Network, situation: EvaluationContext) -> bool:
        """Whether device, precision, inputs, loss and network are supported by the hand-written backward
        pass."""
        loss = network.loss
        return (
            situation.device == self.device
            and situation.precision != "bf16"
            and situation.inputs.ndim == 4
            and isinstance(loss, ClosedFormLoss)
            and loss.has_closed_form(situation.targets)
            and plan_of(network.module) is not None
        )

    def make(self, network: Network) -> ConvolutionalEvaluator:
        """The evaluator of a network."""
        return ConvolutionalEvaluator(network, micro_batch=self.micro_batch, patches=self.patches)


def _in_pairs(parameters: Iterable[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """(weight, bias) of each layer."""
    flat = list(parameters)
    return list(zip(flat[::2], flat[1::2], strict=True))


@dataclass(frozen=True)
class _Start:
    """The input of the first layer: images, or patches with the height and width of the layer's outputs."""

    data: Tensor
    size: Pair


@dataclass(frozen=True)
class _Kept:
    """Tensors of a convolution that the backward pass needs."""

    before: Tensor
    convolved: Tensor | None
    chosen: Tensor | None
    out: Tensor


@dataclass(frozen=True)
class _Forward:
    start: _Start
    kept: list[_Kept]
    rows: list[Tensor]  # inputs of the linear layers
    outputs: Tensor


def _pool_backward(delta: Tensor, pool: nn.MaxPool2d, kept: _Kept) -> Tensor:
    """The gradient with respect to the input of a pool.

    If windows do not overlap, each position gets at most one value. On a GPU these values are then written
    directly, in a third of the time of the kernel that sums the values at each position.
    """
    assert kept.convolved is not None and kept.chosen is not None
    if delta.is_cuda and windows_are_apart(pool):
        return scattered(delta, kept.chosen, kept.convolved)
    before: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(
        delta, kept.convolved, *window(pool), kept.chosen
    )
    return before


def scattered(delta: Tensor, chosen: Tensor, like: Tensor) -> Tensor:
    """Zeros with shape and memory order of `like` [n, c, h, w], with values at given positions.

    The values `delta` [n, c, ...] are at the flat indices `chosen` [n, c, ...] of the h·w positions.
    """
    into = torch.zeros_like(like)
    if into.is_contiguous():
        into.flatten(2).scatter_(2, chosen.flatten(2), delta.flatten(2))
        return into
    pixels, index, values = (x.permute(0, 2, 3, 1).flatten(1, 2) for x in (into, chosen, delta))
    pixels.scatter_(1, index, values)
    return into
