"""Follows hidden units through the computation graph (``torch.fx``) of a network.

The graph shows which axes of which parameters are numbered together. Each linear or convolutional layer
begins a new numbering for its outputs. An addition merges the numberings of its terms. Other layers keep the
numbering of their input; a grouped convolution and attention restrict it to blocks (groups of channels,
heads).

If the value of a unit passes only through odd functions, its sign can be changed, together with all incoming
and outgoing weights. If it passes only through positively homogeneous functions, such as ReLU, the unit can
be scaled. Batch norm and
layer norm begin anew: their weights take up a sign before, and a sign or a scale after them.

What the graph suggests is not proved: an operation that is not known is taken to treat all units alike. So
the caller checks each symmetry on the network (``checks``).
"""

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from topo_core.symmetries.attention_layers import attention_of
from topo_core.symmetries.layers import LayerRules
from topo_core.symmetries.numberings import Value
from topo_core.symmetries.units import Units

_LINEAR_NAMES = frozenset(
    {
        "flatten", "reshape", "view", "mean", "sum", "avg_pool2d", "adaptive_avg_pool2d", "dropout",
        "permute", "transpose", "contiguous", "unsqueeze", "squeeze", "getitem", "expand", "neg",
        "to", "clone",
    }
)  # fmt: skip
_ODD_NAMES = _LINEAR_NAMES | {"tanh", "tanh_"}
_HOMOGENEOUS_NAMES = _LINEAR_NAMES | {"relu", "relu_", "leaky_relu", "max_pool2d"}
_ADDITIONS = frozenset({"add", "iadd", "add_", "sub", "isub", "sub_", "cat", "concat", "stack"})
_TOGETHER = frozenset({"mul", "imul", "mul_", "where", "maximum", "minimum"})
_SHAPES = frozenset({"size", "dim", "numel", "len"})
_SHAPE_ATTRIBUTES = frozenset({"shape", "ndim", "device", "dtype"})


def traced_units(module: nn.Module) -> Units:
    """The symmetries that the graph of ``module`` suggests.

    Indices are those of the trainable parameters, in the order of ``module.named_parameters()``.

    Raises:
        ValueError: the graph cannot be made, or the network has a layer or an operation through which units
            cannot be followed.
    """
    tracer = _LeafTracer(module)
    if tracer.is_leaf_module(module, ""):  # the network is a single layer
        module = nn.Sequential(module)
    try:
        graph = tracer.trace(module)
    except (
        Exception
    ) as error:  # the network's own code runs here, on placeholders instead of tensors
        raise ValueError(
            f"the graph of the network cannot be traced, so hidden units cannot be followed: {error}"
        ) from error
    rules = LayerRules(module)
    values: dict[fx.Node, Value | None] = {}
    for node in graph.nodes:
        values[node] = _followed(node, values, rules)
    return rules.units()


class _LeafTracer(fx.Tracer):
    """Keeps attention layers whole, whose inside is no chain of simple operations."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        # Found before the trace, which replaces parameters by placeholders.
        self._whole = {id(part) for part in module.modules() if attention_of(part) is not None}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or id(m) in self._whole


def _followed(
    node: fx.Node, values: dict[fx.Node, Value | None], rules: LayerRules
) -> Value | None:
    """The units of the value of ``node``; None for a value without units, such as a size."""
    inputs = [value for source in node.all_input_nodes if (value := values[source]) is not None]
    if node.op == "placeholder":
        return rules.fixed
    if node.op == "output":
        for value in inputs:
            rules.output(value)
        return None
    if node.op == "call_module":
        sources = [values[one] for one in node.args if isinstance(one, fx.Node)]
        given = [value for value in sources if value is not None] or inputs
        return rules.layer(str(node.target), given)
    if node.op == "get_attr":
        return rules.tensor(_attribute(rules.module, str(node.target)))
    name = getattr(node.target, "__name__", str(node.target))
    if name in _SHAPES or (name == "getattr" and node.args[1] in _SHAPE_ATTRIBUTES) or not inputs:
        return None
    return _operation(node, name, inputs, rules)


def _operation(node: fx.Node, name: str, inputs: list[Value], rules: LayerRules) -> Value:
    """The units of the value of an operation on values with units."""
    numberings = rules.numberings
    first = inputs[0]
    if name in _ADDITIONS:
        if len(inputs) == 1 and name not in ("cat", "concat", "stack"):  # a constant is added
            numberings.keep_no_gauge(first.gauge)
        for value in inputs[1:]:
            first = numberings.join(first, value)
        return first
    if name in _TOGETHER:
        for value in inputs[1:]:
            first = numberings.join(first, value)
        if len(inputs) > 1 or not _is_number(node):
            numberings.keep_no_gauge(first.gauge)
        return first
    if len({numberings.root(value.numbering) for value in inputs}) != 1:
        raise ValueError(
            f"the operation {node.name} combines units of several numberings, so hidden units cannot "
            "be followed."
        )
    for value in inputs:
        if name not in _ODD_NAMES:
            numberings.not_odd.add(value.gauge)
        if name not in _HOMOGENEOUS_NAMES:
            numberings.not_homogeneous.add(value.gauge)
        if name not in _LINEAR_NAMES:
            numberings.not_linear.add(value.gauge)
    return first


def _is_number(node: fx.Node) -> bool:
    """Whether a product has a positive number as its other factor."""
    numbers = [one for one in node.args if isinstance(one, int | float)]
    return len(numbers) == 1 and numbers[0] > 0 and node.target in (operator.mul, torch.mul)


def _attribute(module: nn.Module, target: str) -> Tensor | Any:
    value: Any = module
    for part in target.split("."):
        value = getattr(value, part)
    return value
