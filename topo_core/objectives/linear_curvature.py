"""Hessian–vector products of fully connected networks, with the work that depends on the point done once.

The product of the Hessian with v is the derivative of the gradient along v. Differentiating the backward pass
layer by layer (the R-operator of Pearlmutter 1994) needs the activations, their first two derivatives and the
gradients of all layers. These depend on the point alone, so they are kept for the products with all further
vectors at the same point. Such a product then takes two large matrix products with the inputs, as a gradient
does; differentiating twice by autograd takes four or five. Several vectors share one pass over the inputs.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from topo_core.objectives.batching.fully_connected import fully_connected, weights_of
from topo_core.objectives.batching.protocol import Network
from topo_core.objectives.losses import CrossEntropy
from topo_core.objectives.losses.protocol import Loss
from topo_core.objectives.minibatches import chunks

_ELEMENTWISE = (
    *(nn.Tanh, nn.Sigmoid, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Softplus, nn.Softsign, nn.Tanhshrink, nn.LogSigmoid, nn.Identity),
)
"""Layers that map each number by itself and have a second derivative in PyTorch."""
_TOGETHER = 16
"""Largest number of vectors in one pass: more are no faster."""
_KEPT = 1 << 25
"""Largest number of values (256 MB in float64) that is kept for the last point."""


@dataclass(frozen=True)
class _Layer:
    """What a chunk keeps of one layer, for n examples.

    Attributes:
        below: [i, n], the input of the layer.
        slope: [o, n], φ'(z) at the output z of the layer; None for the last layer.
        turn: [o, n], φ''(z) times the gradient with respect to φ(z); None for the last layer.
        delta: [o, n], gradient of the chunk's mean loss with respect to z.
    """

    below: Tensor
    slope: Tensor | None
    turn: Tensor | None
    delta: Tensor


@dataclass(frozen=True)
class _Chunk:
    """What is kept of a chunk of the examples.

    Attributes:
        share: its share of all examples.
        layers: first to last.
        outputs_product: the Hessian of the chunk's mean loss with respect to the outputs, times [k, o, n].
    """

    share: float
    layers: list[_Layer]
    outputs_product: Callable[[Tensor], Tensor]


class LinearCurvature:
    """Curvature of the mean loss of [Flatten,] Linear, activation, …, Linear.

    Args:
        network: one for which `is_supported` holds.
    """

    def __init__(self, network: Network) -> None:
        self._layout, self._loss = network.layout, network.loss
        plan = fully_connected(network.module)
        assert plan is not None
        self._activations = plan.activations
        self._widths = [int(shape[0]) for shape in network.layout.shapes[::2]]
        self._last: tuple[Tensor, Tensor, Tensor, list[_Chunk]] | None = None

    def products(self, points: Tensor, vectors: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """Hessians at `points` [k, d] times `vectors` [k, d]: [k, d]. Equal points in sequence share their
        work.

        Raises:
            NotImplementedError: the loss has an operation without a second derivative in PyTorch.
        """
        results = torch.empty_like(points)
        first = 0
        while first < len(points):
            last = first + 1
            while (
                last < len(points)
                and last - first < _TOGETHER
                and torch.equal(points[last], points[first])
            ):
                last += 1
            kept = self._at(points[first], inputs, targets)
            results[first:last] = self._products(points[first], vectors[first:last], kept)
            first = last
        return results

    def _at(self, point: Tensor, inputs: Tensor, targets: Tensor) -> Iterable[_Chunk]:
        """What is kept at `point` [d]: of the last call if that was at the same point."""
        if self._last is not None:
            known, its_inputs, its_targets, kept = self._last
            if its_inputs is inputs and its_targets is targets and torch.equal(known, point):
                return kept
        parts = (
            self._chunk(point, x, y, len(x) / len(inputs))
            for x, y in chunks(inputs, targets, point)
        )
        values = 4 * sum(self._widths) * len(inputs)
        if inputs.device != point.device or inputs.dtype != point.dtype:
            values += inputs.numel()  # chunks are copies
        if values > _KEPT:
            self._last = None
            return parts
        self._last = point.clone(), inputs, targets, list(parts)
        return self._last[3]

    def _chunk(self, point: Tensor, inputs: Tensor, targets: Tensor, share: float) -> _Chunk:
        weights = weights_of(self._layout, point)
        below, outputs = [inputs.flatten(1).T], list[Tensor]()
        for (weight, bias), activation in zip(weights, [*self._activations, None], strict=True):
            outputs.append(torch.addmm(bias, weight, below[-1]))
            if activation is not None:
                with torch.no_grad():
                    below.append(activation(outputs[-1]))
        delta, product = _loss_curvature(self._loss, outputs[-1], targets)
        layers = [_Layer(below[-1], None, None, delta)]
        for number in range(len(self._activations) - 1, -1, -1):
            above = weights[number + 1][0].T @ delta
            slope, second = _derivatives(self._activations[number], outputs[number])
            delta = above * slope
            layers.append(_Layer(below[number], slope, above * second, delta))
        return _Chunk(share, layers[::-1], product)

    def _products(self, point: Tensor, vectors: Tensor, kept: Iterable[_Chunk]) -> Tensor:
        """Products [k, d] with `vectors` [k, d] at `point` [d]."""
        total = torch.zeros_like(vectors)
        weights, moved, into = (weights_of(self._layout, x) for x in (point, vectors, total))
        for chunk in kept:
            turned = self._forward(weights, moved, chunk)
            change = chunk.outputs_product(turned[-1])
            for number in range(len(weights) - 1, -1, -1):
                layer, (weight, bias) = chunk.layers[number], into[number]
                weight.add_(_times(change, layer.below.T), alpha=chunk.share)
                bias.add_(change.sum(2, keepdim=True), alpha=chunk.share)
                if number == 0:
                    break
                under = chunk.layers[number - 1]
                assert under.slope is not None and under.turn is not None
                raised = turned[number - 1] * under.slope
                weight.add_(layer.delta @ raised.transpose(1, 2), alpha=chunk.share)
                change = weights[number][0].T @ change + moved[number][0].mT @ layer.delta
                change = change.mul_(under.slope).add_(turned[number - 1] * under.turn)
        return total

    def _forward(
        self,
        weights: list[tuple[Tensor, Tensor]],
        moved: list[tuple[Tensor, Tensor]],
        chunk: _Chunk,
    ) -> list[Tensor]:
        """The derivatives [k, o, n] along the vectors of the outputs of all layers, before activations."""
        turned = list[Tensor]()
        for number, layer in enumerate(chunk.layers):
            weight, bias = moved[number]
            change = _times(weight, layer.below).add_(bias)
            if turned:
                slope = chunk.layers[number - 1].slope
                assert slope is not None
                change = change.add_(weights[number][0] @ (turned[-1] * slope))
            turned.append(change)
        return turned


def is_supported(network: Network, inputs: Tensor) -> bool:
    """Whether the network is fully connected with elementwise activations, and `inputs` [n, ...] have one
    row of features each."""
    plan = fully_connected(network.module)
    return (
        plan is not None
        and all(type(layer) in _ELEMENTWISE for layer in plan.activations)
        and plan.takes(inputs)
    )


def _times(rows: Tensor, columns: Tensor) -> Tensor:
    """`rows` [k, a, b] times `columns` [b, c]: [k, a, c], as one matrix product."""
    return (rows.reshape(-1, rows.shape[-1]) @ columns).view(*rows.shape[:-1], -1)


def _derivatives(activation: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The first and second derivatives of an elementwise activation at `inputs`, of the same shape."""
    with torch.enable_grad():
        x = inputs.detach().requires_grad_(True)
        (first,) = torch.autograd.grad(activation(x).sum(), x, create_graph=True)
        if not first.requires_grad:  # piecewise linear
            return first, torch.zeros_like(first)
        (second,) = torch.autograd.grad(first.sum(), x, materialize_grads=True)
    return first.detach(), second


def _cross_entropy_curvature(
    outputs: Tensor, targets: Tensor
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """As ``_loss_curvature``, for plain cross entropy: the Hessian of an example is diag(p) − p pᵀ."""
    chances = outputs.softmax(0)
    scaled = chances / outputs.shape[1]
    gradient = scaled.scatter_add(
        0, targets[None], scaled.new_full((1, len(targets)), -1 / len(targets))
    )

    def product(vectors: Tensor) -> Tensor:
        """The Hessian times each of `vectors` [k, o, n]."""
        means = (chances * vectors).sum(1, keepdim=True)
        result: Tensor = scaled * (vectors - means)
        return result

    return gradient, product


def _loss_curvature(
    loss: Loss, outputs: Tensor, targets: Tensor
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The gradient [o, n] of the mean loss with respect to `outputs` [o, n], and a function that multiplies
    by its Hessian."""
    if isinstance(loss, CrossEntropy) and loss.has_closed_form(targets):
        return _cross_entropy_curvature(outputs, targets)
    rows = outputs.T.detach().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(loss.mean(rows, targets), rows, create_graph=True)

    def product(vectors: Tensor) -> Tensor:
        """The Hessian times each of `vectors` [k, o, n]."""
        if not gradient.requires_grad:
            return torch.zeros_like(vectors)
        try:
            (products,) = torch.autograd.grad(
                gradient,
                rows,
                grad_outputs=vectors.mT,
                is_grads_batched=True,
                retain_graph=True,
                materialize_grads=True,
            )
        except RuntimeError as error:
            if "derivative" not in str(error):
                raise
            raise NotImplementedError(str(error).splitlines()[0]) from None
        return products.mT

    return gradient.detach().T, product
