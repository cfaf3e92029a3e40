"""Exact derivatives of a network's loss over a whole set, through the statistics of batch norm.

The loss normalises with a mean M and a variance V of each layer, pooled over the chunks of the set
(``batch_norm``). Both depend on the parameters, so the chain rule has two parts: the gradient at fixed
statistics, and the gradients with respect to M and V times the derivatives of M and V. Each part is computed
chunk by chunk, so that memory does not grow with the set:

1. forward passes in training mode measure the statistics of each chunk (count c, mean m, variance v);
2. passes in evaluation mode with the pooled statistics give the loss, its gradient at fixed statistics, and
   its gradients with respect to M and V;
3. passes in training mode give the derivatives of each chunk's m and v, weighted by
   dM/dm = c/N, dV/dm = 2 c (m - M)/(N - 1) and dV/dv = (c - 1)/(N - 1), where N is the sum of the counts.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from topo_core.objectives.batch_norm import STATISTICS, with_statistics, without_statistics
from topo_core.objectives.flat_parameters import ParameterLayout
from topo_core.objectives.functional_network import FunctionalNetwork
from topo_core.objectives.losses import Loss
from topo_core.objectives.minibatches import CHUNK, chunks, handed, moved, split_sizes
from topo_core.objectives.network_curvature import hessian_vector_product

_SMALLEST = 2  # examples in a chunk; the variance of one example is undefined


@dataclass(frozen=True)
class Moments:
    """Statistics of the inputs of one layer, averaged over its calls if a forward pass has several.

    Attributes:
        count: number of values per channel.
        mean, variance: [channels]; the variance is unbiased.
    """

    count: float
    mean: Tensor
    variance: Tensor

    def leaves(self) -> "Moments":
        """The same values as leaf tensors that require gradients."""
        mean, variance = (v.detach().requires_grad_(True) for v in (self.mean, self.variance))
        return Moments(self.count, mean, variance)


class BatchNormCurvature:
    """The mean loss over a set, with the statistics of that set at each point, and its derivatives.

    Args:
        module: the network.
        layout: of its parameters.
        norms: names of the batch-norm layers whose statistics are computed over the set.
        loss: loss function of outputs and targets.
    """

    def __init__(
        self, module: nn.Module, layout: ParameterLayout, norms: list[str], loss: Loss
    ) -> None:
        self._layout, self._loss = layout, loss
        self._measuring = without_statistics(module, norms)
        self._normalising = with_statistics(module, norms).eval()
        self._calls = FunctionalNetwork(self._measuring), FunctionalNetwork(self._normalising)
        self._norms = norms

    def gradients(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean losses [k] and their gradients [k, d], both in float64, at ``points`` [k, d]."""
        rows = [self._gradient(point, inputs, targets) for point in points]
        return torch.stack([loss for loss, _ in rows]), torch.stack([slope for _, slope in rows])

    def products(self, points: Tensor, vectors: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """Hessians at ``points`` [k, d] times ``vectors`` [k, d]: [k, d].

        Raises:
            NotImplementedError: the set has more than one chunk (the graph of all chunks may not fit into
                memory), or an operation has no second derivative.
        """
        if len(split_sizes(len(inputs), CHUNK, _SMALLEST)) > 1:
            raise NotImplementedError("second derivatives through the statistics of several chunks")
        inputs, targets = handed(inputs, points), moved(targets, points.device)

        def loss_at(row: Tensor) -> Tensor:
            outputs = self._outputs(row, inputs, self._measured(row, inputs))
            return self._loss.mean(outputs, targets)

        rows = [
            hessian_vector_product(loss_at, point, vector)
            for point, vector in zip(points, vectors, strict=True)
        ]
        return torch.stack(rows)

    def _gradient(self, point: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The mean loss, a scalar, and its gradient [d], in float64."""
        row = point.detach().requires_grad_(True)

        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            return chunks(inputs, targets, point, _SMALLEST)

        with torch.no_grad():
            pooled = _pool([self._measured(point, x) for x, _ in batches()])
        leaves = {name: moments.leaves() for name, moments in pooled.items()}
        statistics = [
            value for moments in leaves.values() for value in (moments.mean, moments.variance)
        ]
        total = torch.zeros((), dtype=torch.float64, device=point.device)
        slopes = [torch.zeros_like(part, dtype=torch.float64) for part in (row, *statistics)]
        with torch.enable_grad():
            for x, y in batches():
                loss = self._loss.mean(self._outputs(row, x, leaves), y)
                parts = torch.autograd.grad(
                    loss, [row, *statistics], allow_unused=True, materialize_grads=True
                )
                total += loss.detach().double() * len(x)
                slopes = [
                    slope + part.double() * len(x)
                    for slope, part in zip(slopes, parts, strict=True)
                ]
            gradient = slopes[0]
            pairs = zip(slopes[1::2], slopes[2::2], strict=True)
            weights = dict(zip(leaves, pairs, strict=True))
            for x, _ in batches():
                change = _linearised(self._measured(row, x), pooled, weights)
                if (
                    change.requires_grad
                    # false if a norm acts on the inputs directly: its statistics do not depend on the point
                ):
                    (part,) = torch.autograd.grad(change, row, materialize_grads=True)
                    gradient += part.double()
        return total / len(inputs), gradient / len(inputs)

    def _measured(self, row: Tensor, inputs: Tensor) -> dict[str, Moments]:
        """The statistics of a chunk at a point [d], differentiable if the point is."""
        with _observed(self._measuring, self._norms) as seen:
            self._calls[0](self._layout.views(row), inputs)
        return {name: _average(calls) for name, calls in seen.items()}

    def _outputs(self, row: Tensor, inputs: Tensor, statistics: Mapping[str, Moments]) -> Tensor:
        """Outputs [n, ...] with given statistics, differentiable with respect to both."""
        buffers = {
            f"{name}.{buffer}" if name else buffer: value
            for name, moments in statistics.items()
            for buffer, value in zip(STATISTICS, (moments.mean, moments.variance), strict=False)
        }
        with _DifferentiableStatistics():
            outputs: Tensor = self._calls[1]({**self._layout.views(row), **buffers}, inputs)
        return outputs


@contextmanager
def _observed(module: nn.Module, norms: list[str]) -> Iterator[dict[str, list[Moments]]]:
    """Collect the statistics of the inputs of each batch norm in the calls of ``module``."""
    seen: dict[str, list[Moments]] = {}

    def observer(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def observe(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            del layer
            x = inputs[0]
            axes = [axis for axis in range(x.ndim) if axis != 1]
            count = x.numel() / x.shape[1]
            seen.setdefault(name, []).append(Moments(count, x.mean(axes), x.var(axes)))

        return observe

    handles = [
        module.get_submodule(name).register_forward_pre_hook(observer(name)) for name in norms
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


class _DifferentiableStatistics(TorchFunctionMode):
    """A context in which batch norm in evaluation mode is differentiable with respect to its statistics."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is functional.batch_norm:
            return _batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _batch_norm(
    x: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """PyTorch's batch norm, with derivatives with respect to ``mean`` and ``variance``, which it lacks."""
    if training or mean is None or variance is None:
        return functional.batch_norm(x, mean, variance, weight, bias, training, momentum, eps)
    shape = [1, -1, *[1] * (x.ndim - 2)]
    y = (x - mean.view(shape)) * (variance + eps).rsqrt().view(shape)
    if weight is not None:
        y = y * weight.view(shape)
    return y if bias is None else y + bias.view(shape)


def _average(calls: list[Moments]) -> Moments:
    if len(calls) == 1:
        return calls[0]
    count = sum(call.count for call in calls) / len(calls)
    means = torch.stack([call.mean for call in calls]).mean(0)
    return Moments(count, means, torch.stack([call.variance for call in calls]).mean(0))


def _pool(parts: list[dict[str, Moments]]) -> dict[str, Moments]:
    """The statistics of all chunks together, of each layer."""
    pooled = {}
    for name in parts[0]:
        of_layer = [part[name] for part in parts]
        total = sum(part.count for part in of_layer)
        mean = sum(part.count * part.mean.double() for part in of_layer) / total
        assert isinstance(mean, Tensor)
        squares = sum(
            (part.count - 1) * part.variance.double()
            + part.count * (part.mean.double() - mean).square()
            for part in of_layer
        )
        assert isinstance(squares, Tensor)
        like = of_layer[0].mean
        pooled[name] = Moments(total, mean.to(like), (squares / (total - 1)).to(like))
    return pooled


def _linearised(
    chunk: Mapping[str, Moments],
    pooled: Mapping[str, Moments],
    weights: Mapping[str, tuple[Tensor, Tensor]],
) -> Tensor:
    """A scalar whose gradient is the part of the loss's gradient through the statistics of a chunk.

    Args:
        chunk: its statistics, differentiable.
        pooled: of the whole set.
        weights: of each layer, the gradients of the loss with respect to pooled mean and variance.
    """
    change = torch.zeros(())
    for name, moments in chunk.items():
        count, mean, variance = moments.count, moments.mean, moments.variance
        total, centre = pooled[name].count, pooled[name].mean
        to_mean, to_variance = (weight.to(mean) for weight in weights[name])
        off_centre = (mean - centre).detach()
        for_mean = count / total * to_mean + 2 * count / (total - 1) * to_variance * off_centre
        for_variance = (count - 1) / (total - 1) * to_variance
        change = change.to(mean) + for_mean @ mean + for_variance @ variance
    return change
