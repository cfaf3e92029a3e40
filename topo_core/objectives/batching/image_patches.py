"""The first convolution as a product with image patches, computed once for all points on the same images.

A constant input 1 is appended to each patch, so that the bias is a weight and its gradient part of the
product. Each class chooses a memory order for the later layers, and a kernel for the product.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from topo_core.objectives.batching.channels_last import channels_innermost
from topo_core.objectives.batching.convolutional_layers import Pair


class Patches(Protocol):
    """``matrix`` and gradients are [out, inputs + 1]; images, outputs and ``delta`` [n, channels, h, w]."""

    def arranged(self, x: Tensor) -> Tensor:
        """`x` [n, c, h, w] in the order of memory of the layers that follow."""

    def laid_out(self, windows: Tensor) -> Tensor:
        """Patches of `windows` [n, c, h, w, kh, kw]."""

    def outputs(self, matrix: Tensor, patches: Tensor, size: Pair) -> Tensor:
        """Of the layer, of height and width `size`."""

    def slope(self, patches: Tensor, delta: Tensor) -> Tensor:
        """The gradient of the matrix, where the outputs have the gradient `delta`."""


def windows(layer: nn.Conv2d, padding: Pair, x: Tensor) -> Tensor:
    """Receptive fields of the outputs of a convolution without dilation: [n, c, h, w, kh, kw]."""
    (kh, kw), (sh, sw) = layer.kernel_size, layer.stride
    ph, pw = padding
    padded = nn.functional.pad(x, (pw, pw, ph, ph))
    fields: Tensor = padded.unfold(2, kh, sh).unfold(3, kw, sw)
    return fields


class Rows:
    """[n * h * w, inputs + 1] and products of matrices; channels-last memory."""

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
    """The same patches as images of `inputs + 1` channels, and convolutions of one pixel."""

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
    """[n, inputs + 1, h * w] and a product an image; plain memory, in which cuDNN computes in float32."""

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
