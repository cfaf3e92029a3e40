"""What each kind of layer does to the units of its input, and which of its weights belong to which units."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from topo_core.symmetries.attention_layers import Attention, Projection, attention_of
from topo_core.symmetries.numberings import FIXED, Numberings, Value
from topo_core.symmetries.shifts import Reads
from topo_core.symmetries.units import Gauge, Rotation, Units

_LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BATCH_NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
)
_NO_CHANGE = (
    nn.Identity,
    nn.Flatten,
    nn.Unflatten,
    nn.Dropout,
    nn.Dropout2d,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
)
_ODD = (*_NO_CHANGE, nn.Tanh, nn.Softsign, nn.Tanhshrink)
_HOMOGENEOUS = (*_NO_CHANGE, nn.ReLU, nn.LeakyReLU, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)


class LayerRules:
    """Applies the layers of a network to the bookkeeping of its units.

    Attributes:
        module: the network.
        numberings: the bookkeeping.
        fixed: the value of inputs and outputs.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module, self.numberings = module, Numberings()
        self.fixed = Value(FIXED, FIXED)
        self.numberings.keep_no_gauge(FIXED)
        self._parts = dict(module.named_modules())
        self._reads = Reads(self.numberings)
        self._indices: dict[int, Tensor] = {}
        self._seen: dict[tuple[int, int], Value] = {}
        self._first_layers: list[Tensor] = []
        first = 0
        for parameter in module.parameters():
            if parameter.requires_grad:
                flat = torch.arange(first, first + parameter.numel())
                self._indices[id(parameter)] = flat.reshape(parameter.shape)
                first += parameter.numel()

    def units(self) -> Units:
        """All symmetries, once the whole graph was followed."""
        gauges = self.numberings.gauges()
        numbers = {label: number for number, label in enumerate(gauges)}
        groups = self.numberings.groups(
            {label: numbers[label] for label, gauge in gauges.items() if gauge.odd}
        )
        ordered: tuple[Gauge, ...] = tuple(gauges.values())
        return Units(groups, ordered, self._reads.shifts(), tuple(self._first_layers))

    def output(self, value: Value) -> None:
        """``value`` is an output of the network."""
        self._reads.direct(value)
        self.numberings.fix(value)

    def tensor(self, tensor: object) -> Value | None:
        """A parameter or a buffer that an operation uses outside of a layer; None for a single number."""
        if not isinstance(tensor, Tensor) or tensor.numel() == 1:
            return None
        if id(tensor) not in self._indices:
            return self.fixed
        sides = [k for k, size in enumerate(tensor.shape) if size > 1]
        axis = sides[0] if len(sides) == 1 else tensor.ndim - 1
        value = self.numberings.new(tensor.shape[axis])
        self._axis(tensor, axis, value, +1)
        return value

    def layer(self, name: str, inputs: Sequence[Value]) -> Value:
        """The value of the layer ``name``.

        Raises:
            ValueError: it has parameters, and its units cannot be followed.
        """
        layer, value = self._parts[name], inputs[0]
        attention = attention_of(layer)
        if attention is not None:
            return self._attention(attention, inputs)
        if isinstance(layer, nn.TransformerEncoderLayer):
            return self._encoder_layer(layer, value)
        if isinstance(layer, nn.TransformerEncoder):
            for part in layer.layers:
                value = self._encoder_layer(part, value)
            return value if layer.norm is None else self._layer_norm(layer.norm, value)
        if isinstance(layer, nn.Embedding):
            result = self.numberings.new(layer.embedding_dim)
            self._axis(layer.weight, 1, result, +1)
            return result
        return self._simple(name, layer, value)

    def _simple(self, name: str, layer: nn.Module, value: Value) -> Value:
        if isinstance(layer, _LINEAR):
            return self._linear(layer, value)
        if isinstance(layer, nn.LayerNorm):
            return self._layer_norm(layer, value)
        if isinstance(layer, nn.GroupNorm):
            if layer.num_groups < layer.num_channels:
                self.numberings.restrict(value.numbering, layer.num_groups)
                self.numberings.keep_no_gauge(value.gauge)
                self._reads.direct(value)
            return self._scaled(layer.weight, layer.bias, value)
        if isinstance(layer, _BATCH_NORMS):
            return self._scaled(layer.weight, layer.bias, value)
        if any(True for _ in layer.parameters()):
            raise ValueError(
                f"the layer {name} is a {type(layer).__name__}, whose units cannot be followed."
            )
        if not isinstance(layer, _ODD):
            self.numberings.not_odd.add(value.gauge)
        if not isinstance(layer, _HOMOGENEOUS):
            self.numberings.not_homogeneous.add(value.gauge)
        if not isinstance(layer, _NO_CHANGE):
            self.numberings.not_linear.add(value.gauge)
            self._reads.direct(value)
        return value

    def _linear(self, layer: nn.Module, value: Value) -> Value:
        """A linear or convolutional layer."""
        weight, bias = layer.weight, layer.bias
        assert isinstance(weight, Tensor) and (bias is None or isinstance(bias, Tensor))
        groups = getattr(layer, "groups", 1)
        result = self.numberings.new(len(weight))
        rows = self._rows(Projection(weight, bias, slice(None))) if weight.ndim == 2 else None
        if rows is not None and value == self.fixed:
            self._first_layers.append(rows)
        if groups == 1:
            self._inputs(Projection(weight, bias, slice(None)), value)
            self._axis(weight, 0, result, +1)
        elif isinstance(groups, int):
            self._grouped(weight, groups, value, result)
        self._bias(bias, result)
        return result

    def _grouped(self, weight: Tensor, groups: int, value: Value, result: Value) -> None:
        """A grouped convolution: blocks of inputs and outputs are renumbered together."""
        numberings, indices = self.numberings, self._indices.get(id(weight))
        self._reads.direct(value)
        units = numberings.sizes[numberings.root(value.numbering)]
        each = weight.shape[1]
        fits = units == groups * each
        if indices is None or (id(weight), 0) in self._seen or (units and not fits):
            numberings.fix(value)
            numberings.fix(result)
            return
        self._seen[id(weight), 0] = result
        numberings.restrict(result.numbering, groups)
        numberings.tie(value.numbering, result.numbering)
        gauges = [(result.gauge, +1)]
        if not units:
            numberings.keep_no_gauge(value.gauge)
        else:
            numberings.restrict(value.numbering, groups)
            if (
                each == 1 and len(weight) == groups
            ):  # one weight a channel: one entry for both sides
                gauges.append((value.gauge, -1))
            else:
                parts = indices.reshape(groups, len(weight) // groups, each, -1)
                rows = parts.transpose(1, 2).reshape(units, -1)
                numberings.add(value.numbering, rows, [(value.gauge, -1)], in_blocks=False)
        numberings.add(result.numbering, indices.reshape(len(weight), -1), gauges)

    def _scaled(self, weight: Tensor | None, bias: Tensor | None, value: Value) -> Value:
        """Batch norm: each unit is normalised by itself, then multiplied by a weight of its own."""
        self._reads.normalised(value)
        # The small constant in the denominator breaks the scale.
        self.numberings.not_homogeneous.add(value.gauge)
        self.numberings.not_linear.add(value.gauge)
        if weight is None:
            return value
        result = Value(value.numbering, self.numberings.new_gauge())
        self._axis(weight, 0, result, +1, undone=value)
        self._bias(bias, result)
        return result

    def _layer_norm(self, layer: nn.Module, value: Value) -> Value:
        """Layer norm: units are normalised together, so that only the weights behind it have signs and
        scales.
        """
        self._reads.centred(value)
        self.numberings.keep_no_gauge(value.gauge)
        weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
        result = Value(value.numbering, self.numberings.new_gauge())
        if weight is None:
            self.numberings.keep_no_gauge(result.gauge)
        elif weight.ndim != 1 or len(weight) != self._size(value):
            self.numberings.fix(value)
            self.numberings.keep_no_gauge(result.gauge)
        else:
            self._axis(weight, 0, result, +1)
            self._bias(bias, result)
        return result

    def _attention(self, layer: Attention, inputs: Sequence[Value]) -> Value:
        """Heads are renumbered as blocks; queries with keys, and values with outputs, are rotated inside."""
        numberings = self.numberings
        given = [inputs[min(k, len(inputs) - 1)] for k in range(3)]
        for projection, value in zip(layer.inputs, given, strict=True):
            self._inputs(projection, value)
        result = numberings.new(len(layer.weight))
        self._axis(layer.weight, 0, result, +1)
        self._bias(layer.bias, result)
        rows = [self._rows(projection) for projection in layer.inputs]
        last = self._indices.get(id(layer.weight))
        used = (id(layer.inputs[0].weight), -1)
        if last is None or any(one is None for one in rows) or used in self._seen:
            return result  # frozen, or used twice: no renumbering of heads
        queries, keys, values = (one for one in rows if one is not None)
        self._seen[used] = result
        heads, outputs = layer.heads, last.T
        first = numberings.new(len(queries)).numbering
        second = numberings.new(len(values)).numbering
        for numbering, sides in ((first, (queries, keys)), (second, (values, outputs))):
            numberings.restrict(numbering, heads)
            for side in sides:
                numberings.add(numbering, side)
        numberings.tie(first, second)
        for numbering, sides, name in (
            (first, (queries, keys), "queries and keys"),
            (second, (values, outputs), "values and outputs"),
        ):
            pairs = zip(*(side.reshape(heads, -1, side.shape[1]) for side in sides), strict=True)
            numberings.rotate(numbering, [[Rotation(one, other, name)] for one, other in pairs])
        self._reads.attention(layer, self._indices)
        return result

    def _encoder_layer(self, layer: nn.Module, value: Value) -> Value:
        """``nn.TransformerEncoderLayer``: attention and a perceptron, each added to its input."""
        assert isinstance(layer, nn.TransformerEncoderLayer)
        attention = attention_of(layer.self_attn)
        if attention is None:
            raise ValueError("an encoder layer has attention whose units cannot be followed.")

        def perceptron(inner: Value) -> Value:
            hidden = self._linear(layer.linear1, inner)
            self._reads.direct(hidden)
            relu = layer.activation_relu_or_gelu == 1  # torch's own mark of ReLU
            for forbidden in (self.numberings.not_odd, self.numberings.not_linear):
                forbidden.add(hidden.gauge)
            if not relu:
                self.numberings.not_homogeneous.add(hidden.gauge)
            return self._linear(layer.linear2, hidden)

        join = self.numberings.join
        if layer.norm_first:
            value = join(value, self._attention(attention, [self._layer_norm(layer.norm1, value)]))
            return join(value, perceptron(self._layer_norm(layer.norm2, value)))
        value = self._layer_norm(layer.norm1, join(value, self._attention(attention, [value])))
        return self._layer_norm(layer.norm2, join(value, perceptron(value)))

    def _size(self, value: Value) -> int:
        return self.numberings.sizes[self.numberings.root(value.numbering)]

    def _rows(self, projection: Projection) -> Tensor | None:
        """[r, inputs + 1], indices of the weights and the bias of each row of a projection."""
        weight = self._indices.get(id(projection.weight))
        if weight is None:
            return None
        parts = [weight[projection.rows]]
        if projection.bias is not None:
            bias = self._indices.get(id(projection.bias))
            if bias is None:
                return None
            parts.append(bias[projection.rows, None])
        return torch.cat(parts, dim=1)

    def _inputs(self, projection: Projection, value: Value) -> None:
        """The weights [outputs, inputs, …] of a layer that leads away from the units of ``value``."""
        self._reads.linear(value, projection, self._indices)
        weight, units = projection.weight, self._size(value)
        if not units:
            return
        if weight.shape[1] % units or not math.prod(weight.shape):
            self.numberings.fix(value)
            return
        self._axis(weight, 1, value, -1, rows=projection.rows)

    def _axis(
        self,
        parameter: Tensor,
        axis: int,
        value: Value,
        sign: int,
        *,
        rows: slice | None = None,
        undone: Value | None = None,
    ) -> None:
        """Axis ``axis`` of a parameter, or of some of its rows, lists the units of ``value``.

        ``sign`` is +1 for weights that lead to the units and -1 for weights that lead away. The gauge of
        ``undone`` is taken up by these weights.
        """
        indices = self._indices.get(id(parameter))
        if indices is None:
            self.numberings.fix(value)
            return
        part = indices if rows is None else indices[rows]
        start = int(part.flatten()[0])
        known = self._seen.setdefault((start, axis), value)
        if known is not value:  # the parameter is used twice
            self.numberings.join(known, value)
            self.numberings.keep_no_gauge(value.gauge)
            return
        gauges = [(value.gauge, sign)] + ([(undone.gauge, -1)] if undone else [])
        units = self._size(value) or part.shape[axis]
        self.numberings.add(value.numbering, part.movedim(axis, 0).reshape(units, -1), gauges)

    def _bias(self, bias: object, value: Value) -> None:
        if isinstance(bias, Tensor):
            self._axis(bias, 0, value, +1)
            self._reads.bias(value, self._indices.get(id(bias)))
