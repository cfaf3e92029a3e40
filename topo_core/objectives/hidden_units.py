"""Hidden units that can be renumbered, changed in sign or rescaled without a change of the network's outputs.

The computation graph (``torch.fx``) shows which axes of which parameters are numbered together. Each linear
or convolutional layer begins a new numbering for its outputs. An addition merges the numberings of its terms.
Other layers keep the numbering of their input.

If the value of a unit passes only through odd functions, its sign can be changed, together with all incoming
and outgoing weights. If it passes only through positively homogeneous functions, such as ReLU, the unit can
be scaled: incoming weights are multiplied by s > 0 and outgoing weights divided by s.
"""

import operator
from dataclasses import dataclass

import torch
from scipy.cluster.hierarchy import DisjointSet
from torch import Tensor, fx, nn

_FIXED = 0  # the numbering of inputs and outputs
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_AVERAGES = (
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
)
_LINEAR = (nn.Identity, nn.Flatten, nn.Unflatten, *_AVERAGES)
_ODD = (*_LINEAR, nn.Tanh, nn.Softsign, nn.Tanhshrink)
_HOMOGENEOUS = (*_LINEAR, nn.ReLU, nn.LeakyReLU, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_LINEAR_NAMES = frozenset(
    {"flatten", "reshape", "view", "mean", "avg_pool2d", "adaptive_avg_pool2d"}
)
_ODD_NAMES = _LINEAR_NAMES | {"tanh", "tanh_"}
_HOMOGENEOUS_NAMES = _LINEAR_NAMES | {"relu", "relu_", "leaky_relu", "max_pool2d"}


@dataclass(frozen=True)
class Axis:
    """Axis ``axis`` of parameter ``name`` lists each unit ``block`` times in a row.

    ``block`` is above 1 behind a flattening, where a channel becomes several features.
    """

    name: str
    axis: int
    block: int = 1


@dataclass(frozen=True)
class Group:
    """Hidden units that are numbered together, and the axes of parameters that this numbering indexes.

    Attributes:
        size: how many units.
        axes: of parameters. Axis 0 of a weight, and a bias, lead to the units; axis 1 leads away.
        odd: whether units may change their sign.
        homogeneous: whether units may be scaled.
    """

    size: int
    axes: tuple[Axis, ...]
    odd: bool
    homogeneous: bool


def hidden_groups(module: nn.Module) -> tuple[Group, ...]:
    """The groups of hidden units of ``module``, in the order of its layers.

    Raises:
        ValueError: the network has a layer or an operation through which units cannot be followed.
    """
    return _Tracer(module).groups()


def coordinates(module: nn.Module, group: Group) -> tuple[Tensor, ...]:
    """For each axis of ``group``, the indices [size, m] of each unit's weights in the flat parameters.

    Flat parameters are in the order of ``module.parameters()``. Renumber one axis after the other, since both
    axes of one weight may belong to a group.
    """
    parts, first = {}, 0
    for name, parameter in module.named_parameters():
        flat = torch.arange(first, first + parameter.numel())
        parts[name] = flat.reshape(parameter.shape)
        first += parameter.numel()
    return tuple(
        parts[axis.name].movedim(axis.axis, 0).reshape(group.size, -1) for axis in group.axes
    )


class _Tracer:
    """Follows the numbering of units through the graph of a module."""

    def __init__(self, module: nn.Module) -> None:
        self.modules = dict(module.named_modules())
        self.graph = fx.symbolic_trace(module).graph
        self.numberings = DisjointSet([_FIXED])
        self.sizes: list[int] = [0]
        self.axes: list[tuple[int, Axis]] = []
        self.not_odd: set[int] = set()
        self.not_homogeneous: set[int] = set()

    def groups(self) -> tuple[Group, ...]:
        numbering: dict[fx.Node, int] = {}
        for node in self.graph.nodes:
            numbering[node] = self._follow(node, numbering)
        axes_of: dict[int, list[Axis]] = {}
        for label, axis in self.axes:
            root = self._root(label)
            if root != self._root(_FIXED):
                axes_of.setdefault(root, []).append(axis)
        not_odd = {self._root(label) for label in self.not_odd}
        not_homogeneous = {self._root(label) for label in self.not_homogeneous}
        return tuple(
            Group(self.sizes[root], tuple(axes), root not in not_odd, root not in not_homogeneous)
            for root, axes in axes_of.items()
        )

    def _follow(self, node: fx.Node, numbering: dict[fx.Node, int]) -> int:
        """The numbering of the values of ``node``."""
        inputs = [numbering[source] for source in node.all_input_nodes]
        if node.op == "placeholder":
            return _FIXED
        if node.op == "output":
            for label in inputs:
                self._join(_FIXED, label)
            return _FIXED
        if node.op == "call_module":
            return self._layer(str(node.target), inputs[0])
        if node.op == "get_attr":
            raise ValueError(
                f"the parameter {node.target} is used outside of a layer, so hidden units "
                "cannot be followed."
            )
        if node.target in (operator.add, operator.iadd, torch.add, "add", "add_"):
            if len(inputs) == 1:  # a constant is added
                self.not_odd.add(inputs[0])
                self.not_homogeneous.add(inputs[0])
            for label in inputs[1:]:
                self._join(inputs[0], label)
        elif len({self._root(label) for label in inputs}) != 1:
            raise ValueError(
                f"the operation {node.name} combines units of several numberings, so hidden units cannot "
                "be followed."
            )
        else:
            name = getattr(node.target, "__name__", str(node.target))
            if name not in _ODD_NAMES:
                self.not_odd.add(inputs[0])
            if name not in _HOMOGENEOUS_NAMES:
                self.not_homogeneous.add(inputs[0])
        return inputs[0]

    def _layer(self, name: str, label: int) -> int:
        layer = self.modules[name]
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            if getattr(layer, "groups", 1) != 1:
                raise ValueError(
                    f"the layer {name} is a grouped convolution, whose units cannot be "
                    "renumbered one by one."
                )
            inputs = layer.weight.shape[1]
            units = self.sizes[self._root(label)]
            block = inputs // units if units else 1
            self.axes.append((label, Axis(f"{name}.weight", 1, block)))
            label = self._new(layer.weight.shape[0])
            self.axes.append((label, Axis(f"{name}.weight", 0)))
            if layer.bias is not None:
                self.axes.append((label, Axis(f"{name}.bias", 0)))
        elif isinstance(layer, _NORMS):
            # The weights of batch norm already set the sign and the scale of a unit.
            self.not_odd.add(label)
            self.not_homogeneous.add(label)
            if layer.affine:
                self.axes.append((label, Axis(f"{name}.weight", 0)))
                self.axes.append((label, Axis(f"{name}.bias", 0)))
        elif any(True for _ in layer.parameters()):
            raise ValueError(
                f"the layer {name} is a {type(layer).__name__}, whose units cannot be followed."
            )
        else:
            if not isinstance(layer, _ODD):
                self.not_odd.add(label)
            if not isinstance(layer, _HOMOGENEOUS):
                self.not_homogeneous.add(label)
        return label

    def _new(self, size: int) -> int:
        label = len(self.sizes)
        self.numberings.add(label)
        self.sizes.append(size)
        return label

    def _root(self, label: int) -> int:
        # The smallest label represents a set, so that groups stay in the order of the layers.
        return int(min(self.numberings.subset(label)))

    def _join(self, first: int, second: int) -> None:
        self.numberings.merge(first, second)
