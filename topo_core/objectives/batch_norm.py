"""Batch norm: the statistics that a loss uses.

Gradients on a minibatch use the statistics of that minibatch, as in training. A loss over the whole training
set uses statistics of that set, which are recomputed at each point: each chunk passes through the network in
training mode, and the statistics of the chunks are pooled with their sizes. `batch_norm_curvature` has the
exact gradient of that loss. Running statistics of two networks are never interpolated.

A frozen layer, which stays in evaluation mode when its network is put into training mode, always uses its own
statistics. They are part of the problem, as other buffers are.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from topo_core.objectives.flat_parameters import ParameterLayout
from topo_core.objectives.minibatches import CHUNK, handed, split_sizes

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Names of the buffers of a batch-norm layer."""


def training_norms(module: nn.Module) -> list[str]:
    """Names of the batch-norm layers that use the statistics of their minibatch in training."""
    modes = {layer: layer.training for layer in module.modules()}
    module.train()
    norms = [
        name
        for name, layer in module.named_modules()
        if isinstance(layer, _BatchNorm) and layer.training
    ]
    for layer, training in modes.items():
        layer.training = training
    return norms


def without_statistics(module: nn.Module, norms: list[str]) -> nn.Module:
    """A copy in training mode whose layers `norms` use the statistics of a batch and keep none."""
    copied = deepcopy(module).train()
    for name in norms:
        layer = copied.get_submodule(name)
        assert isinstance(layer, _BatchNorm)
        layer.track_running_stats = False
        layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    return copied


def with_statistics(module: nn.Module, norms: list[str]) -> nn.Module:
    """A copy whose layers `norms` all have buffers for statistics."""
    copied = deepcopy(module)
    for name in norms:
        layer = copied.get_submodule(name)
        assert isinstance(layer, _BatchNorm)
        if layer.running_mean is None:
            like = next((p for p in layer.parameters()), torch.empty(0))
            width = layer.num_features
            layer.track_running_stats = True
            layer.running_mean = torch.zeros(width, dtype=like.dtype, device=like.device)
            layer.running_var = torch.ones(width, dtype=like.dtype, device=like.device)
            layer.num_batches_tracked = torch.tensor(0, device=like.device)
    return copied


class TrainingSetStatistics:
    """Batch-norm statistics at a point, over the training set.

    Args:
        module: the network.
        layout: of its parameters.
        norms: names of the layers whose statistics are computed.
    """

    def __init__(self, module: nn.Module, layout: ParameterLayout, norms: list[str]) -> None:
        self._module = with_statistics(module, norms).train()
        self._layout, self._norms = layout, norms
        for name in norms:
            layer = self._module.get_submodule(name)
            assert isinstance(layer, _BatchNorm)
            layer.momentum = None  # a cumulative average, in case a layer is called twice

    def at(self, points: Tensor, inputs: Tensor) -> Mapping[str, Tensor]:
        """Buffers [k, ...] by name, for `points` [k, d]."""
        rows = [self._of_point(point, inputs) for point in points]
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def _of_point(self, point: Tensor, inputs: Tensor) -> dict[str, Tensor]:
        module = deepcopy(self._module)
        for name, view in self._layout.views(point).items():
            module.get_parameter(name).data = view
        layers = {name: module.get_submodule(name) for name in self._norms}
        pools = {name: _Pool() for name in layers}
        handles = [
            layer.register_forward_pre_hook(pools[name].count) for name, layer in layers.items()
        ]
        with torch.no_grad():
            for x in inputs.split(split_sizes(len(inputs), CHUNK, 2)):
                for layer in layers.values():
                    assert isinstance(layer, _BatchNorm)
                    layer.reset_running_stats()
                module(handed(x, point))
                for name, layer in layers.items():
                    pools[name].add(layer)
        for handle in handles:
            handle.remove()
        return {
            f"{name}.{buffer}" if name else buffer: value
            for name, pool in pools.items()
            for buffer, value in pool.buffers().items()
        }


@dataclass
class _Pool:
    """Statistics of one layer, pooled over chunks of different sizes.

    Attributes:
        parts: for each chunk: number of values per channel, mean [channels] and unbiased variance [channels].
    """

    parts: list[tuple[int, Tensor, Tensor]] = field(default_factory=list)
    _values: int = 0
    _calls: int = 0

    def count(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Count the values per channel and the calls; a forward pre-hook."""
        del layer
        self._values += inputs[0].numel() // inputs[0].shape[1]
        self._calls += 1

    def add(self, layer: nn.Module) -> None:
        """Store the statistics of the last chunk, which are in the running statistics of ``layer``."""
        assert isinstance(layer, _BatchNorm)
        assert layer.running_mean is not None and layer.running_var is not None
        if self._calls:
            values = self._values // self._calls
            self.parts.append((values, layer.running_mean.clone(), layer.running_var.clone()))
        self._values = self._calls = 0

    def buffers(self) -> dict[str, Tensor]:
        """Mean and unbiased variance [channels] over all values, by name; empty if the layer was never
        called."""
        if not self.parts:
            return {}
        _, mean, variance = self.parts[0]
        if len(self.parts) > 1:
            counts = torch.tensor([part[0] for part in self.parts], dtype=torch.float64)
            counts = counts.to(mean.device)[:, None]
            means = torch.stack([part[1] for part in self.parts]).double()
            variances = torch.stack([part[2] for part in self.parts]).double()
            pooled = (counts * means).sum(0) / counts.sum()
            squares = ((counts - 1) * variances + counts * (means - pooled).square()).sum(0)
            mean, variance = pooled.to(mean.dtype), (squares / (counts.sum() - 1)).to(mean.dtype)
        number = torch.tensor(len(self.parts), device=mean.device)
        return dict(zip(STATISTICS, (mean, variance, number), strict=True))
