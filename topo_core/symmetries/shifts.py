"""Numbers that can be added to biases and weights without a change of the outputs, by what reads a value."""

import torch
from torch import Tensor

from topo_core.symmetries.attention_layers import Attention, Projection
from topo_core.symmetries.numberings import FIXED, Numberings, Value
from topo_core.symmetries.units import Shift

OUTPUTS = "weights of the outputs"
"""Name of the shift that adds one number to all outputs, which a softmax does not see."""


class Reads:
    """Remembers which layers read each value, and which biases are added to it.

    Values are known by their gauges: additions join them, and normalisation begins a new one.
    """

    def __init__(self, numberings: Numberings) -> None:
        self._numberings = numberings
        self._direct: set[int] = set()
        self._centred: set[int] = set()
        self._normalised: set[int] = set()
        self._biases: list[tuple[int, Tensor]] = []
        self._weights: list[tuple[int, Tensor, Tensor | None]] = []
        self._fixed: list[Shift] = []

    def direct(self, value: Value) -> None:
        """``value`` is read by an activation, or is an output."""
        self._direct.add(value.gauge)

    def centred(self, value: Value) -> None:
        """``value`` is read by layer norm, which subtracts the mean over the units."""
        self._centred.add(value.gauge)

    def normalised(self, value: Value) -> None:
        """``value`` is read by batch norm, which subtracts the mean over the examples."""
        self._normalised.add(value.gauge)

    def bias(self, value: Value, indices: Tensor | None) -> None:
        """A bias [n] is added to ``value``."""
        if indices is not None:
            self._biases.append((value.gauge, indices))

    def linear(self, value: Value, projection: Projection, indices: dict[int, Tensor]) -> None:
        """``value`` is read by a linear layer, with weights [outputs, inputs, …] and perhaps a bias."""
        self._direct.add(value.gauge)
        weight = indices.get(id(projection.weight))
        if weight is None:
            return
        bias = None if projection.bias is None else indices.get(id(projection.bias))
        targets = None if bias is None else bias[projection.rows]
        self._weights.append((value.gauge, weight[projection.rows], targets))

    def attention(self, layer: Attention, indices: dict[int, Tensor]) -> None:
        """A bias of keys adds a number to all scores of a query; one of values adds one vector to all
        outputs.
        """
        _, keys, values = layer.inputs
        if keys.bias is not None:
            rows = indices[id(keys.bias)][keys.rows]
            self._fixed.append(Shift("biases of keys", rows[:, None]))
        if values.bias is not None and layer.bias is not None:
            rows = indices[id(values.bias)][values.rows]
            factors = indices[id(layer.weight)].T
            targets = indices[id(layer.bias)].expand_as(factors)
            self._fixed.append(Shift("biases of values", rows[:, None], factors, targets))

    def shifts(self) -> tuple[Shift, ...]:
        """All shifts, once the whole graph was followed."""
        return (*self._fixed, *self._before_norms(), *self._between_layers(), *self._of_outputs())

    def _roots(self, gauges: set[int]) -> set[int]:
        return {self._numberings.gauge_root(gauge) for gauge in gauges}

    def _before_norms(self) -> list[Shift]:
        """What batch norm and layer norm subtract."""
        root = self._numberings.gauge_root
        direct, centred = self._roots(self._direct), self._roots(self._centred)
        normalised = self._roots(self._normalised)
        shifts = [
            Shift("biases before batch norm", bias[:, None])
            for gauge, bias in self._biases
            if root(gauge) in normalised - direct - centred
        ]
        columns = [
            rows.T
            for gauge, rows in self._numberings.incoming()
            if root(gauge) in centred - direct - normalised
        ]
        return [*shifts, *(Shift("means before layer norm", one) for one in columns)]

    def _between_layers(self) -> list[Shift]:
        """Biases that the biases of the next layers can take up, since no activation lies between."""
        root = self._numberings.gauge_root
        nonlinear = self._roots(self._numberings.not_linear)
        shifts = []
        for gauge, bias in self._biases:
            own = root(gauge)
            readers = [(w, targets) for other, w, targets in self._weights if root(other) == own]
            alone = sum(root(other) == own for other, _ in self._biases) == 1
            if own in nonlinear or not alone or not readers:
                continue
            factors, targets = [], []
            for weight, biases in readers:
                if biases is None or weight.shape[1] % len(bias):
                    break
                rows = weight.movedim(1, 0).reshape(len(bias), -1)
                shape = (weight.shape[1] // len(bias), *weight.shape[2:], len(biases))
                spread = biases.expand(shape).movedim(-1, 1 if weight.ndim > 1 else 0)
                factors.append(rows)
                targets.append(spread.reshape(1, -1).expand_as(rows))
            else:
                name = "biases between linear layers"
                shifts.append(
                    Shift(name, bias[:, None], torch.cat(factors, 1), torch.cat(targets, 1))
                )
        return shifts

    def _of_outputs(self) -> list[Shift]:
        """One number added to all outputs, by the weights of each unit that leads to them, or by the bias."""
        fixed = self._numberings.root(FIXED)
        return [
            Shift(OUTPUTS, rows.T)
            for numbering, rows in self._numberings.incoming_of_numberings()
            if self._numberings.root(numbering) == fixed
        ]
