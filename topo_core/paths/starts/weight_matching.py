"""Permutations of hidden units: the end of a path may be replaced by an equal network.

Units of a hidden layer can be numbered in any order; the network computes the same. So two
minima may be far apart for no reason but their numbering. Weight matching (the idea of
Ainsworth, Hayase & Srinivasa 2022) chooses, layer after layer, the numbering of the second
network whose weights have the largest inner product with those of the first, until no layer
changes: a linear assignment problem each.

Which axes of which parameters are numbered together is read off the computation graph
(``torch.fx``): each linear or convolutional layer numbers its outputs anew, an addition makes
the numberings of its terms one, and other layers keep the numbering of their input.
"""

import operator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx, nn

from topo_core.random_streams import generator

_KEEPS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_ROUNDS = 100


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
    """``size`` hidden units that are numbered together, and where that numbering shows."""

    size: int
    axes: tuple[Axis, ...]


def hidden_groups(module: nn.Module) -> tuple[Group, ...]:
    """The groups of hidden units of ``module``, in the order of its layers.

    Raises:
        ValueError: for a layer whose units cannot be followed.
    """
    return _Tracer(module).groups()


def weight_matching(
    module: nn.Module, reference: Tensor, other: Tensor, *, seed: int = 0
) -> Tensor:
    """``other`` [d] with its hidden units renumbered to lie near ``reference`` [d].

    Both are flat parameters in the order of ``module.parameters()``. The result computes the
    same function as ``other`` (batch norm in its training form: running statistics are
    buffers, and do not take part); the caller should assert that its loss is the same.

    Raises:
        ValueError: for a layer whose units cannot be followed.
    """
    groups = hidden_groups(module)
    fixed, moved = _named(module, reference), _named(module, other)
    draw = generator(seed, "weight matching")
    for _ in range(_ROUNDS):
        changed = False
        for index in torch.randperm(len(groups), generator=draw).tolist():
            group = groups[index]
            gain = sum(
                _rows(fixed, axis, group.size) @ _rows(moved, axis, group.size).T
                for axis in group.axes
            )
            order = torch.as_tensor(assignment(-torch.as_tensor(gain).cpu().numpy()))
            old = torch.arange(group.size)
            # Only a strict gain counts as a change, so that ties cannot go round for ever.
            better = torch.as_tensor(gain).cpu()
            if float(better[old, order].sum() - better[old, old].sum()) > 1e-9 * float(
                better.abs().sum()
            ):
                _renumber(moved, group, order)
                changed = True
        if not changed:
            break
    names = [name for name, _ in module.named_parameters()]
    return torch.cat([moved[name].flatten() for name in names]).to(other)


def assignment(cost: np.ndarray) -> np.ndarray:
    """The permutation p that minimises the sum of ``cost[i, p[i]]`` ([n, n]).

    Shortest augmenting paths with dual variables (Jonker & Volgenant 1987), O(n³).
    """
    size = len(cost)
    row_price, column_price = np.zeros(size), np.zeros(size)
    row_of = np.full(size, -1)  # of each column
    for row in range(size):
        distance, before = np.full(size, np.inf), np.full(size, -1)
        done = np.zeros(size, dtype=bool)
        here, reached, column = row, 0.0, -1
        while True:
            through = reached + cost[here] - row_price[here] - column_price
            closer = ~done & (through < distance)
            distance[closer], before[closer] = through[closer], here
            column = int(np.argmin(np.where(done, np.inf, distance)))
            reached = distance[column]
            done[column] = True
            if row_of[column] < 0:
                break
            here = int(row_of[column])
        inner = done.copy()
        inner[column] = False
        row_price[row] += reached
        row_price[row_of[inner]] += reached - distance[inner]
        column_price[inner] -= reached - distance[inner]
        while True:
            here = int(before[column])
            row_of[column] = here
            # The column that ``here`` had before, unless it is the new row.
            held = np.nonzero((row_of == here) & (np.arange(size) != column))[0]
            if here == row:
                break
            column = int(held[0])
    columns = np.empty(size, dtype=np.int64)
    columns[row_of] = np.arange(size)
    return columns


def _named(module: nn.Module, flat: Tensor) -> dict[str, Tensor]:
    parts, first = {}, 0
    for name, parameter in module.named_parameters():
        part = flat[first : first + parameter.numel()]
        parts[name] = part.reshape(parameter.shape).to(torch.float64)
        first += parameter.numel()
    return parts


def _rows(parameters: dict[str, Tensor], axis: Axis, size: int) -> Tensor:
    """What belongs to each unit of a group in one parameter: [size, ...] flattened."""
    return parameters[axis.name].movedim(axis.axis, 0).reshape(size, -1)


def _renumber(parameters: dict[str, Tensor], group: Group, order: Tensor) -> None:
    for axis in group.axes:
        index = (order[:, None] * axis.block + torch.arange(axis.block)).flatten()
        rows = parameters[axis.name]
        parameters[axis.name] = rows.index_select(axis.axis, index.to(rows.device))


class _Tracer:
    """Follows the numbering of units through the graph of a module."""

    def __init__(self, module: nn.Module) -> None:
        self.modules = dict(module.named_modules())
        self.graph = fx.symbolic_trace(module).graph
        self.parents: list[int] = [0]  # union-find over numberings; 0 is the fixed one
        self.sizes: list[int] = [0]
        self.axes: list[tuple[int, Axis]] = []

    def groups(self) -> tuple[Group, ...]:
        numbering: dict[fx.Node, int] = {}
        for node in self.graph.nodes:
            numbering[node] = self._follow(node, numbering)
        found: dict[int, list[Axis]] = {}
        for label, axis in self.axes:
            root = self._root(label)
            if root != 0:
                found.setdefault(root, []).append(axis)
        return tuple(Group(self.sizes[root], tuple(axes)) for root, axes in found.items())

    def _follow(self, node: fx.Node, numbering: dict[fx.Node, int]) -> int:
        """The numbering of the values of ``node``."""
        inputs = [numbering[source] for source in node.all_input_nodes]
        if node.op == "placeholder":
            return 0
        if node.op == "output":
            for label in inputs:
                self._join(0, label)
            return 0
        if node.op == "call_module":
            return self._layer(str(node.target), inputs[0])
        if node.op == "get_attr":
            raise ValueError(
                f"the parameter {node.target} is used outside of a layer, so hidden units "
                "cannot be followed; choose another start than aligned."
            )
        if node.target in (operator.add, operator.iadd, torch.add, "add", "add_"):
            for label in inputs[1:]:
                self._join(inputs[0], label)
        elif len({self._root(label) for label in inputs}) != 1:
            raise ValueError(
                f"the operation {node.name} mixes hidden units in a way that cannot be "
                "followed; choose another start than aligned."
            )
        return inputs[0]

    def _layer(self, name: str, label: int) -> int:
        layer = self.modules[name]
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            if getattr(layer, "groups", 1) != 1:
                raise ValueError(
                    f"the layer {name} is a grouped convolution, whose units cannot be "
                    "renumbered; choose another start than aligned."
                )
            inputs = layer.weight.shape[1]
            units = self.sizes[self._root(label)]
            block = inputs // units if units else 1
            self.axes.append((label, Axis(f"{name}.weight", 1, block)))
            label = self._new(layer.weight.shape[0])
            self.axes.append((label, Axis(f"{name}.weight", 0)))
            if layer.bias is not None:
                self.axes.append((label, Axis(f"{name}.bias", 0)))
        elif isinstance(layer, _KEEPS):
            if layer.affine:
                self.axes.append((label, Axis(f"{name}.weight", 0)))
                self.axes.append((label, Axis(f"{name}.bias", 0)))
        elif any(True for _ in layer.parameters()):
            raise ValueError(
                f"the layer {name} is a {type(layer).__name__}, whose units cannot be "
                "followed; choose another start than aligned."
            )
        return label

    def _new(self, size: int) -> int:
        self.parents.append(len(self.parents))
        self.sizes.append(size)
        return len(self.parents) - 1

    def _root(self, label: int) -> int:
        while self.parents[label] != label:
            label = self.parents[label]
        return label

    def _join(self, first: int, second: int) -> None:
        low, high = sorted((self._root(first), self._root(second)))
        self.parents[high] = low
