"""Normalising layers whose inputs hardly vary, so that ``eps`` and not the variance sets their scale.

Such a layer cancels the size of the weights before it, so a ridge makes these smaller for nothing until the
variance of the layer's inputs is of the size of ``eps``. There the outputs change over distances in the
parameters that are orders of magnitude smaller than elsewhere, and descents of a loss end after many small
steps, if at all.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

_FEW = 10  # times eps: below it eps changes the scale by 5 % and more


@dataclass(frozen=True)
class SmallVariance:
    """A layer some of whose groups of inputs have a variance of less than ten times its ``eps``.

    Attributes:
        layer: its name in the network.
        eps: of the layer.
        smallest: variance of a group of inputs that are normalised together.
        share: of the groups that have such a variance.
    """

    layer: str
    eps: float
    smallest: float
    share: float

    def __str__(self) -> str:
        return (
            f"the inputs of the normalising layer {self.layer!r} have a variance below {_FEW} times its eps "
            f"of {self.eps:.2g} in {self.share:.2g} of the cases, {self.smallest:.2g} the smallest"
        )


def small_variances(
    module: nn.Module, parameters: Mapping[str, Tensor], inputs: Tensor
) -> list[SmallVariance]:
    """The layers of ``module`` that get such inputs for ``inputs`` [n, ...], in the order of the network.

    Args:
        module: the network; layer, group, RMS and batch norm are looked at.
        parameters: by name.
        inputs: examples, in the dtype of the parameters if they are floating-point numbers.
    """
    copied = deepcopy(module).train()
    small: dict[str, SmallVariance] = {}

    def look(name: str, layer: nn.Module, groups: Tensor) -> None:
        eps = layer.eps if isinstance(layer.eps, float) else torch.finfo(groups.dtype).eps
        low = groups <= _FEW * eps
        if bool(low.any()):
            share = float(low.double().mean())
            small[name] = SmallVariance(name, eps, float(groups.min()), share)

    for name, layer in copied.named_modules():
        if isinstance(layer, (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, _BatchNorm)):
            layer.register_forward_pre_hook(
                lambda layer, given, name=name: look(name, layer, _variances(layer, given[0]))
            )
    with torch.no_grad():
        functional_call(copied, dict(parameters), (inputs,))
    return list(small.values())


def _variances(layer: nn.Module, inputs: Tensor) -> Tensor:
    """The variances of the groups of ``inputs`` [n, ...] that ``layer`` normalises together."""
    if isinstance(layer, _BatchNorm):
        return inputs.transpose(0, 1).flatten(1).var(1, correction=0)
    if isinstance(layer, nn.GroupNorm):
        return inputs.reshape(len(inputs), layer.num_groups, -1).var(2, correction=0)
    assert isinstance(layer, nn.LayerNorm | nn.RMSNorm)
    groups = inputs.flatten(-len(layer.normalized_shape))
    if isinstance(layer, nn.RMSNorm):
        return groups.square().mean(-1)
    return groups.var(-1, correction=0)
