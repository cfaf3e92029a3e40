"""Finds the projections of an attention layer, whoever wrote it.

``nn.MultiheadAttention`` is known. Any other module counts as attention if it has a number of heads and
either one linear layer for queries, keys and values together and one for the output, or four linear layers.
This is a guess from names and shapes, which the caller must check on the network.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

_HEADS = ("heads", "num_heads", "n_heads", "n_head", "nhead", "num_attention_heads")
_KINDS = ("q", "k", "v")


@dataclass(frozen=True)
class Projection:
    """Some rows of a weight [rows, inputs] and of its bias; no bias where it is None."""

    weight: Tensor
    bias: Tensor | None
    rows: slice


@dataclass(frozen=True)
class Attention:
    """The projections of an attention layer with ``heads`` heads.

    Attributes:
        heads: their number; each head has the same number of successive rows of each projection.
        inputs: projections to queries, keys and values.
        weight: [width, values], of the output.
        bias: [width], of the output; None without one.
    """

    heads: int
    inputs: tuple[Projection, Projection, Projection]
    weight: Tensor
    bias: Tensor | None


def attention_of(module: nn.Module) -> Attention | None:
    """The projections of ``module``; None if it is no attention layer whose heads can be followed."""
    if isinstance(module, nn.MultiheadAttention):
        if module.in_proj_weight is None or module.bias_k is not None:
            return None
        return _attention(
            module.num_heads,
            _packed(module.in_proj_weight, module.in_proj_bias),
            module.out_proj.weight,
            module.out_proj.bias,
        )
    linear = {name: part for name, part in module.named_children() if isinstance(part, nn.Linear)}
    owned = {id(p) for part in linear.values() for p in part.parameters()}
    heads = next((getattr(module, name) for name in _HEADS if hasattr(module, name)), None)
    if not isinstance(heads, int) or any(id(p) not in owned for p in module.parameters()):
        return None
    if len(linear) == 2:
        packed = max(linear.values(), key=lambda part: part.out_features)
        (last,) = (part for part in linear.values() if part is not packed)
        if packed.out_features != 3 * last.in_features:
            return None
        return _attention(heads, _packed(packed.weight, packed.bias), last.weight, last.bias)
    if len(linear) == 4:
        return _separate(heads, linear)
    return None


def _separate(heads: int, linear: dict[str, nn.Linear]) -> Attention | None:
    """Of four layers: those named after queries, keys and values, and the one that is left."""
    rest = dict(linear)
    inputs = []
    for kind in _KINDS:
        names = [name for name in rest if kind in name.lower().replace("proj", "")]
        if len(names) != 1:
            return None
        part = rest.pop(names[0])
        inputs.append(Projection(part.weight, part.bias, slice(0, part.out_features)))
    (last,) = rest.values()
    return _attention(heads, (inputs[0], inputs[1], inputs[2]), last.weight, last.bias)


def _packed(weight: Tensor, bias: Tensor | None) -> tuple[Projection, Projection, Projection]:
    """Queries, keys and values one after the other in the rows of one weight."""
    third = len(weight) // 3
    first, second, last = (
        Projection(weight, bias, slice(k * third, (k + 1) * third)) for k in range(3)
    )
    return first, second, last


def _attention(
    heads: int,
    inputs: tuple[Projection, Projection, Projection],
    weight: Tensor,
    bias: Tensor | None,
) -> Attention | None:
    rows = [len(torch.empty(len(one.weight))[one.rows]) for one in inputs]
    fits = rows[0] == rows[1] and rows[2] == weight.shape[1]
    if heads < 1 or not fits or any(count % heads for count in rows):
        return None
    return Attention(heads, inputs, weight, bias)
