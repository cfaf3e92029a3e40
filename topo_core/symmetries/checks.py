"""Checks on a network that the symmetries that its graph suggests keep its outputs."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from topo_core.objectives.flat_parameters import ParameterLayout
from topo_core.objectives.functional_network import FunctionalNetwork
from topo_core.random_streams import generator
from topo_core.symmetries.units import Gauge, Group, Rotation, Units

_EXAMPLES = 4
_SPREAD = 0.3  # of the random part of the point, in standard deviations of each tensor
_ROUNDING = 1e-9  # largest change of an output, in sizes of the outputs


def checked_units(module: nn.Module, inputs: Tensor, units: Units, *, seed: int = 0) -> Units:
    """``units`` without the symmetries that change the outputs of ``module`` on some of ``inputs``.

    They are checked in float64 at a random point near the parameters of the network, in the training form of
    batch norm and the evaluation form of everything else.

    Raises:
        ValueError: the network does not return one tensor.
    """
    outputs, point = _outputs(module, inputs[:_EXAMPLES]), _near(module, seed)
    before = outputs(point)
    if not isinstance(before, Tensor):
        raise ValueError("the network does not return one tensor, so symmetries cannot be checked.")
    size = float((before - before.mean()).abs().max())

    def keeps(move: Callable[[Tensor], None]) -> bool:
        copy = point.clone()
        move(copy)
        change = float((outputs(copy) - before).abs().max())
        return change <= _ROUNDING * size

    checked = _Checks(keeps, seed)
    gauges = tuple(checked.gauge(gauge, number) for number, gauge in enumerate(units.gauges))
    odd = {number for number, gauge in enumerate(gauges) if gauge.odd}
    return replace(units, gauges=gauges, groups=checked.groups(units.groups, odd))


class _Checks:
    def __init__(self, keeps: Callable[[Callable[[Tensor], None]], bool], seed: int) -> None:
        self._keeps, self._seed, self._number = keeps, seed, 0

    def gauge(self, gauge: Gauge, number: int) -> Gauge:
        draw = generator(self._seed, "gauge", number)
        size = len(gauge.incoming[0])
        signs = torch.randint(0, 2, (size,), generator=draw).double() * 2 - 1
        signs[0] = -1.0
        scales = 0.5 + torch.rand(size, generator=draw, dtype=torch.float64)
        odd = gauge.odd and self._keeps(lambda point: scale(gauge, point, signs))
        scaled = gauge.homogeneous and self._keeps(lambda point: scale(gauge, point, scales))
        return replace(gauge, odd=odd, homogeneous=scaled)

    def groups(self, groups: Sequence[Group], odd: set[int]) -> tuple[Group, ...]:
        kept: list[Group] = []
        for group in groups:
            inside = tuple(self.groups(one, odd) for one in group.inside)
            rotations = tuple(
                tuple(one for one in unit if self._rotates(one)) for unit in group.rotations
            )
            axes = tuple(
                replace(axis, gauges=tuple(one for one in axis.gauges if one in odd))
                for axis in group.axes
            )
            exact = replace(
                group,
                axes=axes,
                inside=inside if any(inside) else (),
                rotations=rotations if any(rotations) else (),
            )
            if exact.size == 1 or self._renumbers(exact):
                kept.append(exact)
            else:  # the units keep their numbers; what is inside them may still be renumbered
                kept += _single_units(exact)
        return tuple(kept)

    def _renumbers(self, group: Group) -> bool:
        self._number += 1
        draw = generator(self._seed, "renumber", self._number)
        orders = [torch.randperm(group.size, generator=draw), torch.arange(group.size).roll(1)]

        def move(order: Tensor) -> Callable[[Tensor], None]:
            def renumber(point: Tensor) -> None:
                for axis in group.axes:
                    point[axis.rows] = point[axis.rows[order]]

            return renumber

        return all(self._keeps(move(order)) for order in orders)

    def _rotates(self, rotation: Rotation) -> bool:
        self._number += 1
        draw = generator(self._seed, "rotate", self._number)
        size = len(rotation.first)
        matrix = torch.eye(size, dtype=torch.float64)
        matrix += 0.3 * torch.randn(size, size, generator=draw, dtype=torch.float64)
        return self._keeps(lambda point: rotate(rotation, point, matrix))


def _single_units(group: Group) -> list[Group]:
    """A group of one unit for each unit that has groups or rotations inside, or signs."""
    return [
        Group(
            1,
            tuple(replace(axis, rows=axis.rows[unit, None]) for axis in group.axes),
            group.inside[unit : unit + 1],
            group.rotations[unit : unit + 1],
        )
        for unit in range(group.size)
    ]


def scale(gauge: Gauge, point: Tensor, factors: Tensor) -> None:
    """Multiply each unit of a gauge by one of ``factors`` [n], which are not zero, in place."""
    for rows in gauge.incoming:
        point[rows] = factors[:, None] * point[rows]
    for rows in gauge.outgoing:
        point[rows] = point[rows] / factors[:, None]


def rotate(rotation: Rotation, point: Tensor, matrix: Tensor) -> None:
    """Apply an invertible ``matrix`` [d, d] to the first family and its inverse transpose to the second, in
    place.
    """
    point[rotation.first] = matrix @ point[rotation.first]
    point[rotation.second] = torch.linalg.solve(matrix.T, point[rotation.second])


def _outputs(module: nn.Module, inputs: Tensor) -> Callable[[Tensor], Tensor]:
    """From flat parameters [d] to outputs, on a copy of the network in float64."""
    copy = deepcopy(module).to("cpu", torch.float64).eval()
    for part in copy.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.train()
    layout, network = ParameterLayout.of(copy), FunctionalNetwork(copy)
    inputs = inputs.cpu().double() if inputs.is_floating_point() else inputs.cpu()

    def outputs(point: Tensor) -> Tensor:
        with torch.no_grad():
            result: Tensor = network(layout.views(point), inputs)
        return result

    return outputs


def _near(module: nn.Module, seed: int) -> Tensor:
    """The parameters of the network with noise, so that no symmetry holds because biases are zero."""
    draw, parts = generator(seed, "symmetries are checked here"), []
    for parameter in module.parameters():
        if parameter.requires_grad:
            flat = parameter.detach().double().cpu().flatten()
            spread = float(flat.std(correction=0)) or 0.3
            noise = torch.randn(flat.shape, generator=draw, dtype=torch.float64)
            parts.append(flat + _SPREAD * spread * noise)
    return torch.cat(parts)
