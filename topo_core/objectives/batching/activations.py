"""Activations whose derivative follows from their output, so that a backward pass needs to keep only the
output."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Activation:
    """An activation function.

    Attributes:
        apply_: applies it to a tensor in place.
        backward: computes the gradient with respect to its input from the gradient with respect to its
            output, and the output.
    """

    apply_: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]


def _relu_backward(delta: Tensor, output: Tensor) -> Tensor:
    before: Tensor = torch.ops.aten.threshold_backward(delta, output, 0)
    return before


def _tanh_backward(delta: Tensor, output: Tensor) -> Tensor:
    before: Tensor = torch.ops.aten.tanh_backward(delta, output)
    return before


def _sigmoid_backward(delta: Tensor, output: Tensor) -> Tensor:
    before: Tensor = torch.ops.aten.sigmoid_backward(delta, output)
    return before


ACTIVATIONS: Mapping[type[nn.Module], Activation] = {
    nn.ReLU: Activation(torch.relu_, _relu_backward),
    nn.Tanh: Activation(torch.tanh_, _tanh_backward),
    nn.Sigmoid: Activation(torch.sigmoid_, _sigmoid_backward),
}
"""The supported activations, by the type of the layer."""
