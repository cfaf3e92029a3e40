"""Plain convolutional networks on a CPU: one point after another, in small parts of the batch.

Batching the points does not pay for convolutions: grouped kernels are slower than separate ones, and the
activations of one point already leave the cache. What pays is

* channels-last memory, in which max-pooling is vectorised (an order of magnitude) and kernels are faster;
* parts of the batch, gradients added up: small ones stay in the cache, large ones spare what each call costs;
* ReLU after max-pooling, where the text has it before: both are monotone, so values are equal, and
  gradients too, since a window's maximum passes one exactly where it is positive;
* the first layer as a product with image patches: its input is the same at all points, so they are laid
  out once for all of them.

The best size of a part, and whether MKL (a product of matrices) or oneDNN (a convolution of one pixel) is
faster on the patches, depends on the processor. ``convolutional`` is one choice of both,
``convolutional_128`` another, and a run's probe takes the faster.

The backward pass is written out, with the kernels that autograd would call.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from topo_core.strategies.channels_last import channels_innermost
from topo_core.strategies.parameters import ParameterLayout

_WIDEST_PATCH = 128  # inputs of a patch above which the first layer is a convolution like any other

Pair = tuple[int, int]


@dataclass(frozen=True)
class _Convolution:
    """A convolution and, in the order in which they are carried out, its max-pool and ReLU."""

    layer: nn.Conv2d
    padding: Pair
    pool: nn.MaxPool2d | None
    relu: bool


@dataclass(frozen=True)
class Plan:
    """Convolutions, a flattening, and linear layers with ReLU between."""

    convolutions: tuple[_Convolution, ...]
    linears: int


def plan_of(module: nn.Module) -> Plan | None:
    """The plan of (Conv2d, ReLU and MaxPool2d in either order), Flatten, Linear, ReLU, …, Linear.

    None for any other network.
    """
    if not isinstance(module, nn.Sequential) or not all(
        p.requires_grad for p in module.parameters()
    ):
        return None
    layers = list(module)
    split = next((i for i, layer in enumerate(layers) if type(layer) is nn.Flatten), None)
    if split is None or not _flattens_all(layers[split]):
        return None
    convolutions = _convolutions(layers[:split])
    head = layers[split + 1 :]
    linear = all(type(layer) is nn.Linear and layer.bias is not None for layer in head[::2])
    if not convolutions or not linear or len(head) % 2 == 0:
        return None
    if not all(type(layer) is nn.ReLU for layer in head[1::2]):
        return None
    return Plan(convolutions, len(head[::2]))


def _flattens_all(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) == (1, -1)


def _convolutions(layers: Sequence[nn.Module]) -> tuple[_Convolution, ...] | None:
    found: list[_Convolution] = []
    rest = list(layers)
    while rest:
        layer = rest.pop(0)
        if type(layer) is not nn.Conv2d or layer.bias is None or layer.groups != 1:
            return None
        if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            return None
        pool, relu = None, False
        while rest and type(rest[0]) is not nn.Conv2d:
            after = rest.pop(0)
            if type(after) is nn.MaxPool2d and pool is None:
                pool = after
            elif type(after) is nn.ReLU:  # a second one changes nothing
                relu = True
            else:
                return None
        found.append(_Convolution(layer, _pair(layer.padding), pool, relu))
    return tuple(found)


class Convolutional:
    """Only for networks that `plan_of` knows.

    Args:
        module, layout: the network.
        micro_batch: examples whose activations are held at once.
        pixelwise: whether the product with the patches is a convolution of one pixel.
    """

    def __init__(
        self,
        module: nn.Module,
        layout: ParameterLayout,
        *,
        micro_batch: int = 32,
        pixelwise: bool = False,
    ) -> None:
        plan = plan_of(module)
        if plan is None:
            raise ValueError("not a plain convolutional network")
        self._plan, self._layout = plan, layout
        self.micro_batch, self._pixelwise = micro_batch, pixelwise
        first = plan.convolutions[0].layer
        self._as_product = first.weight[0].numel() <= _WIDEST_PATCH and first.dilation == (1, 1)

    def gradients(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        losses = points.new_zeros(len(points))
        gradients = torch.zeros_like(points)
        weights = [self._parameters(point) for point in points]
        into = [self._parameters(gradient) for gradient in gradients]
        for x, y in zip(
            inputs.split(self.micro_batch), targets.split(self.micro_batch), strict=True
        ):
            start = self._laid_out(x)
            for k in range(len(points)):
                forward = self._forward(weights[k], start)
                logs = torch.log_softmax(forward.logits, dim=1)
                index = y[:, None]
                losses[k] -= logs.gather(1, index).sum() / len(inputs)
                delta = logs.exp_()
                delta.scatter_add_(1, index, delta.new_full((), -1.0).expand(index.shape))
                delta.div_(len(inputs))
                self._backward(weights[k], into[k], forward, delta)
        return losses, gradients

    def logits(
        self, points: Tensor, inputs: Tensor, buffers: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        weights = [self._parameters(point) for point in points]
        parts = []
        for x in inputs.split(self.micro_batch):
            start = self._laid_out(x)
            parts.append(torch.stack([self._forward(w, start).logits for w in weights]))
        return torch.cat(parts, dim=1)

    def _parameters(self, point: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(weight, bias) of each layer, views of `point` [d]."""
        views = list(self._layout.views(point).values())
        return list(zip(views[::2], views[1::2], strict=True))

    def _laid_out(self, x: Tensor) -> "_Start":
        """What the first layer needs of the images `x` [n, c, h, w], for all points."""
        if not self._as_product:
            return _Start(channels_innermost(x), (0, 0))
        layer = self._plan.convolutions[0].layer
        (kh, kw), (sh, sw) = layer.kernel_size, layer.stride
        ph, pw = self._plan.convolutions[0].padding
        padded = nn.functional.pad(x, (pw, pw, ph, ph))
        windows = padded.unfold(2, kh, sh).unfold(3, kw, sw)  # [n, c, height, width, kh, kw]
        n, c, height, width = windows.shape[:4]
        # A column of ones makes the bias one more weight, and its gradient one more product.
        patches = x.new_empty(n, height, width, c * kh * kw + 1)
        patches[..., -1] = 1
        patches[..., :-1].unflatten(-1, (c, kh, kw)).copy_(windows.permute(0, 2, 3, 1, 4, 5))
        return _Start(patches.flatten(0, 2), (height, width))

    def _first(self, weight: Tensor, bias: Tensor, start: "_Start") -> Tensor:
        matrix = torch.cat([weight.flatten(1), bias[:, None]], dim=1)
        if self._pixelwise:
            return torch.conv2d(start.pixels, matrix[:, :, None, None])
        rows = start.data @ matrix.T
        return rows.view(-1, *start.size, len(weight)).permute(0, 3, 1, 2)

    def _forward(self, weights: list[tuple[Tensor, Tensor]], start: "_Start") -> "_Forward":
        kept: list[_Kept] = []
        x = start.data
        for place, convolution in enumerate(self._plan.convolutions):
            weight, bias = weights[place]
            layer, pool = convolution.layer, convolution.pool
            if place == 0 and self._as_product:
                out = self._first(weight, bias, start)
            else:
                out = torch.conv2d(
                    x,
                    channels_innermost(weight),
                    bias,
                    layer.stride,
                    convolution.padding,
                    layer.dilation,
                )
            before, chosen = x, None
            convolved = out
            if pool is not None:
                out, chosen = torch.ops.aten.max_pool2d_with_indices(convolved, *_window(pool))
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
        """Add the gradients of one part of the batch, whose logits have the gradient `delta`."""
        count = len(forward.kept)
        for place in range(len(weights) - 1, count - 1, -1):
            below = forward.rows[place - count]
            into[place][0].addmm_(delta.T, below)
            into[place][1].add_(delta.sum(0))
            delta = delta @ weights[place][0]
            if place > count:
                delta = torch.ops.aten.threshold_backward(delta, below, 0)
        delta = channels_innermost(delta.view_as(forward.kept[-1].out))
        for place in range(count - 1, -1, -1):
            convolution, kept = self._plan.convolutions[place], forward.kept[place]
            if convolution.relu:
                delta = torch.ops.aten.threshold_backward(delta, kept.out, 0)
            if convolution.pool is not None:
                delta = torch.ops.aten.max_pool2d_with_indices_backward(
                    delta, kept.convolved, *_window(convolution.pool), kept.chosen
                )
            if place == 0 and self._as_product:
                self._first_backward(into[0], forward.start, delta)
            else:
                delta = self._convolution_backward(
                    convolution.layer, weights[place][0], into[place], kept.before, delta, place > 0
                )

    def _first_backward(self, into: tuple[Tensor, Tensor], start: "_Start", delta: Tensor) -> None:
        if self._pixelwise:
            product = self._pixels_backward(start.pixels, delta)
        else:
            rows = delta.permute(0, 2, 3, 1).reshape(len(start.data), -1)
            product = rows.T @ start.data
        into[0].flatten(1).add_(product[:, :-1])
        into[1].add_(product[:, -1])

    @staticmethod
    def _pixels_backward(pixels: Tensor, delta: Tensor) -> Tensor:
        """The gradient [out, inputs + 1] of the kernel of one pixel."""
        kernel = delta.new_empty(delta.shape[1], pixels.shape[1], 1, 1)
        _, slope, _ = torch.ops.aten.convolution_backward(
            delta,
            pixels,
            kernel,
            None,
            [1, 1],
            [0, 0],
            [1, 1],
            False,
            [0, 0],
            1,
            [False, True, False],
        )
        assert isinstance(slope, Tensor)
        return slope.flatten(1)

    @staticmethod
    def _convolution_backward(
        layer: nn.Conv2d,
        weight: Tensor,
        into: tuple[Tensor, Tensor],
        before: Tensor,
        delta: Tensor,
        inputs_too: bool,
    ) -> Tensor:
        below, slope, bias = torch.ops.aten.convolution_backward(
            delta,
            before,
            channels_innermost(weight),
            [len(weight)],
            layer.stride,
            layer.padding,
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
class _Start:
    """Images, or their patches [n * height * width, inputs + 1] and (height, width)."""

    data: Tensor
    size: Pair

    @property
    def pixels(self) -> Tensor:
        """The patches as images [n, inputs + 1, height, width] in channels-last memory."""
        return self.data.view(-1, *self.size, self.data.shape[1]).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class _Kept:
    """What the backward pass needs of a convolution."""

    before: Tensor
    convolved: Tensor | None
    chosen: Tensor | None
    out: Tensor


@dataclass(frozen=True)
class _Forward:
    start: _Start
    kept: list[_Kept]
    rows: list[Tensor]  # inputs of the linear layers
    logits: Tensor


def _window(pool: nn.MaxPool2d) -> tuple[Pair, Pair, Pair, Pair, bool]:
    return (
        _pair(pool.kernel_size),
        _pair(pool.stride),
        _pair(pool.padding),
        _pair(pool.dilation),
        pool.ceil_mode,
    )


def _pair(value: int | tuple[int, ...]) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
