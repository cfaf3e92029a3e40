"""Recognises plain convolutional networks and lists their layers in the order of evaluation.

ReLU is applied after max-pooling, even if the module applies it before. Both are monotone, so the values are
equal. The gradients are also equal, since in both orders a gradient passes only where the maximum of a window
is positive.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from topo_core.objectives.batching.exact_layers import chain, weights_and_biases

Pair = tuple[int, int]


@dataclass(frozen=True)
class Convolution:
    """A convolution, followed by an optional max-pool and an optional ReLU, evaluated in this order."""

    layer: nn.Conv2d
    padding: Pair
    pool: nn.MaxPool2d | None
    relu: bool


@dataclass(frozen=True)
class Plan:
    """The layers of a plain network: convolutions, a flattening, and linear layers with ReLU between them."""

    convolutions: tuple[Convolution, ...]


def plan_of(module: nn.Module) -> Plan | None:
    """The plan of (Conv2d, ReLU and MaxPool2d in either order), Flatten, Linear, ReLU, …, Linear.

    None for any other network.
    """
    layers = chain(module)
    if layers is None:
        return None
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
    weighted = [*(c.layer for c in convolutions), *head[::2]]
    return Plan(convolutions) if weights_and_biases(weighted) else None


def _flattens_all(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) == (1, -1)


def _convolutions(layers: Sequence[nn.Module]) -> tuple[Convolution, ...] | None:
    convolutions: list[Convolution] = []
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
        convolutions.append(Convolution(layer, pair(layer.padding), pool, relu))
    return tuple(convolutions)


def windows_are_apart(pool: nn.MaxPool2d) -> bool:
    """Whether the windows of a pool do not overlap."""
    return pair(pool.kernel_size) == pair(pool.stride) and pair(pool.dilation) == (1, 1)


def window(pool: nn.MaxPool2d) -> tuple[Pair, Pair, Pair, Pair, bool]:
    return (
        pair(pool.kernel_size),
        pair(pool.stride),
        pair(pool.padding),
        pair(pool.dilation),
        pool.ceil_mode,
    )


def pair(value: int | tuple[int, ...]) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
