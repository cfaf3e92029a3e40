"""The first convolution as a product with image patches, computed once for all points on the same images.

A constant 1 is appended to each patch, so that the bias is a column of the matrix and its gradient comes from
the same product. Each class implements one memory order for the later layers and one kernel for the product.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from topo_core.objectives.batching.channels_last import channels_innermost
from topo_core.objectives.batching.convolutional_layers import Pair


class Patches(Protocol):
    """A layout of patches and the products with them.

    ``matrix`` and its gradient are [out, inputs + 1]; images, outputs and ``delta`` are [n, channels, h, w].
    """

    def arranged(self, x: Tensor) -> Tensor:
        """`x` [n, c, h, w] in the memory order of the later layers."""

    def laid_out(self, windows: Tensor) -> Tensor:
        """The patches of `windows` [n, c, h, w, kh, kw], in the layout of the class."""

    def outputs(self, matrix: Tensor, patches: Tensor, size: Pair) -> Tensor:
        """The outputs [n, out, h, w] of the layer; `size` is (h, w)."""

    def slope(self, patches: Tensor, delta: Tensor) -> Tensor:
        """The gradient with respect to the matrix, from the gradient `delta` with respect to the outputs."""


def windows(layer: nn.Conv2d, padding: Pair, x: Tensor) -> Tensor:
    """The receptive fields [n, c, h, w, kh, kw] of the outputs of a convolution without dilation."""
    (kh, kw), (sh, sw) = layer.kernel_size, layer.stride
    ph, pw = padding
    padded = nn.functional.pad(x, (pw, pw, ph, ph))
    fields: Tensor = padded.unfold(2, kh, sh).unfold(3, kw, sw)
    return fields


class Rows:
    """Patches as a matrix [n * h * w, inputs + 1], and matrix products; later layers use channels-last
    memory."""

    def arranged(self, x: Tensor) -> Tensor:
        return channels_innermost(x)

    def laid_out(self, windows: Tensor) -> Tensor:
        n, c, height, width, kh, kw = windows.shape
        patches = windows.new_empty(n, height, width, c * kh * kw + 1)
        patches[..., -1] = 1
        patches[..., :-1].unflatten(-1, (c, kh, kw)).copy_(windows.permute(0, 2, 3, 1, 4, 5))
        return patches.flatten(0, 2)

    def outputs(self, matrix: Tensor, patches: Tensor, size: Pair) -> Tensor:
        return (patches @ matrix.T).view(-1, *size, len(matrix)).permute(0, 3, 1, 2)

    def slope(self, patches: Tensor, delta: Tensor) -> Tensor:
        return delta.permute(0, 2, 3, 1).reshape(len(patches), -1).T @ patches


class Pixels(Rows):
    """The patches of `Rows` viewed as images with `inputs + 1` channels, and 1×1 convolutions."""

    def outputs(self, matrix: Tensor, patches: Tensor, size: Pair) -> Tensor:
        return torch.conv2d(_images(patches, size), matrix[:, :, None, None])

    def slope(self, patches: Tensor, delta: Tensor) -> Tensor:
        kernel = delta.new_empty(delta.shape[1], patches.shape[1], 1, 1)
        _, slope, _ = torch.ops.aten.convolution_backward(
            delta,
            _images(patches, (delta.shape[2], delta.shape[3])),
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


class Planes:
    """Patches [n, inputs + 1, h * w], and one matrix product per image; later layers use contiguous memory.

    In this memory order cuDNN computes in float32.
    """

    def arranged(self, x: Tensor) -> Tensor:
        return x.contiguous()

    def laid_out(self, windows: Tensor) -> Tensor:
        n, c, height, width, kh, kw = windows.shape
        patches = windows.new_empty(n, c * kh * kw + 1, height, width)
        patches[:, -1] = 1
        patches[:, :-1].unflatten(1, (c, kh, kw)).copy_(windows.permute(0, 1, 4, 5, 2, 3))
        return patches.flatten(2)

    def outputs(self, matrix: Tensor, patches: Tensor, size: Pair) -> Tensor:
        return torch.bmm(matrix.expand(len(patches), -1, -1), patches).view(len(patches), -1, *size)

    def slope(self, patches: Tensor, delta: Tensor) -> Tensor:
        return torch.bmm(delta.flatten(2), patches.transpose(1, 2)).sum(0)


def _images(patches: Tensor, size: Pair) -> Tensor:
    """Patches as images [n, inputs + 1, h, w] in channels-last memory."""
    return patches.view(-1, *size, patches.shape[1]).permute(0, 3, 1, 2)
