"""Recognises fully connected networks."""

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from topo_core.objectives.batching.exact_layers import chain, weights_and_biases
from topo_core.objectives.flat_parameters import ParameterLayout


@dataclass(frozen=True)
class FullyConnected:
    """[Flatten,] Linear, activation, …, Linear with biases.

    Attributes:
        layers: the linear layers.
        activations: the modules between them.
        flattens: whether it begins with a flattening of all features.
    """

    layers: tuple[nn.Linear, ...]
    activations: tuple[nn.Module, ...]
    flattens: bool

    def takes(self, inputs: Tensor) -> bool:
        """Whether `inputs` [n, ...] fit the first layer as one row of features each."""
        width = inputs.shape[1:].numel()
        return width == self.layers[0].in_features and (self.flattens or inputs.ndim == 2)


def fully_connected(module: nn.Module) -> FullyConnected | None:
    """The layers of such a network; None for any other one. Any module may stand for an activation."""
    layers = chain(module)
    if not layers:
        return None
    first = layers[0]
    flattens = type(first) is nn.Flatten
    if isinstance(first, nn.Flatten) and flattens:
        if (first.start_dim, first.end_dim) != (1, -1):
            return None
        layers = layers[1:]
    linear = [layer for layer in layers[::2] if type(layer) is nn.Linear]
    if len(layers) % 2 == 0 or len(linear) != len(layers[::2]) or not weights_and_biases(linear):
        return None
    if any(below.out_features != above.in_features for below, above in pairwise(linear)):
        return None
    return FullyConnected(tuple(linear), tuple(layers[1::2]), flattens)


def weights_of(layout: ParameterLayout, rows: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Views of `rows` [..., d] for each layer of such a network: weight [..., o, i] and bias [..., o, 1]."""
    views = list(layout.views(rows).values())
    return [(weight, bias[..., None]) for weight, bias in zip(views[::2], views[1::2], strict=True)]
