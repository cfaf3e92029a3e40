"""Fully connected networks: batched matrix products and a hand-written backward pass.

Activations are kept as [k, width, batch], so that every layer is one batched matrix product. The first layer
needs most of the arithmetic, and all points share its input. So the first layer of all points is a single
product with all their weights, and the gradients of these weights are another one. Copying the weights into
one matrix takes less time than separate products, each of which would read the inputs from outside the cache.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from topo_core.objectives.batching.activations import ACTIVATIONS, Activation
from topo_core.objectives.batching.fully_connected import (
    FullyConnected,
    fully_connected,
    weights_of,
)
from topo_core.objectives.batching.matrix_products import Product, blas, has_onednn
from topo_core.objectives.batching.protocol import EvaluationContext, Network
from topo_core.objectives.losses.protocol import ClosedFormLoss
from topo_core.objectives.minibatches import chunks


def plan_of(module: nn.Module) -> FullyConnected | None:
    """The layers of a fully connected network with known activations; None for any other network."""
    plan = fully_connected(module)
    known = plan is not None and all(type(layer) in ACTIVATIONS for layer in plan.activations)
    return plan if known else None


def activations_of(plan: FullyConnected) -> tuple[Activation, ...]:
    """The activations of a network that `plan_of` recognises."""
    return tuple(ACTIVATIONS[type(layer)] for layer in plan.activations)


class LinearEvaluator:
    """An evaluator for networks that `plan_of` recognises, with a loss in closed form.

    Args:
        network: the network.
        product: function that computes the large products, those of the first layer.

    Raises:
        ValueError: the network is not fully connected, or its loss has no closed form.
    """

    def __init__(self, network: Network, *, product: Product = blas) -> None:
        plan = plan_of(network.module)
        if plan is None or not isinstance(network.loss, ClosedFormLoss):
            raise ValueError("the network is not fully connected, or its loss has no closed form")
        self.depth, self._layout, self._product = len(plan.layers), network.layout, product
        self._activations, self._loss = activations_of(plan), network.loss

    def _forward(self, parameters: list[tuple[Tensor, Tensor]], first: Tensor) -> list[Tensor]:
        """The activations after each layer, given the outputs `first` of the first layer.

        The last entry has the outputs of the network.
        """
        activations = [first]
        for (weight, bias), activation in zip(parameters[1:], self._activations, strict=True):
            activation.apply_(activations[-1])
            activations.append(torch.baddbmm(bias, weight, activations[-1]))
        return activations

    def gradients(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean losses [k] and gradients [k, d] of `points` [k, d] on a batch."""
        losses, gradients = self.gradients_of_paths(points[None], inputs[None], targets[None])
        return losses[0], gradients[0]

    def gradients_of_paths(
        self, points: Tensor, inputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Losses [p, m] and gradients [p, m, d] at `points` [p, m, d], each path on its own minibatch.

        ``inputs`` are [p, b, ...] and ``targets`` [p, b, ...]. The points of a path share its minibatch: one
        product of all their first weights, and another one for all their gradients.
        """
        paths, size, dimension = points.shape
        flat = points.reshape(paths * size, dimension)
        gradients = torch.empty_like(flat)
        parameters, into = weights_of(self._layout, flat), weights_of(self._layout, gradients)
        rows = inputs.flatten(2)
        weight, bias = parameters[0]
        width, inner = weight.shape[1:]
        first = self._products(weight.reshape(paths, size * width, inner), rows)
        activations = self._forward(parameters, first.view(len(flat), width, -1).add_(bias))
        losses, delta = self._loss.column_gradients_(activations.pop(), targets)
        for layer in range(self.depth - 1, 0, -1):
            weight, below = parameters[layer][0], activations[layer - 1]
            into[layer][0].copy_(torch.bmm(delta, below.transpose(1, 2)))
            torch.sum(delta, dim=2, keepdim=True, out=into[layer][1])
            delta = torch.bmm(weight.transpose(1, 2), delta)
            delta = self._activations[layer - 1].backward(delta, below)
        product = self._products(delta.reshape(paths, size * width, -1), rows.transpose(1, 2))
        into[0][0].copy_(product.view(len(flat), width, inner))
        torch.sum(delta, dim=2, keepdim=True, out=into[0][1])
        return losses.view(paths, size), gradients.view(points.shape)

    def _products(self, a: Tensor, b: Tensor) -> Tensor:
        """The products a bᵀ [p, m, n] of a [p, m, k] and b [p, n, k]."""
        if self._product is blas:
            return torch.bmm(a, b.transpose(1, 2))
        products = [self._product(*pair) for pair in zip(a, b, strict=True)]
        return products[0][None] if len(products) == 1 else torch.stack(products)

    def outputs(
        self, points: Tensor, inputs: Tensor, buffers: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Outputs [k, n, c]; such networks have no buffers."""
        parameters = weights_of(self._layout, points)
        weight, bias = parameters[0]
        k, width, inner = weight.shape
        first = self._product(weight.reshape(k * width, inner), inputs.flatten(1)).view(
            k, width, -1
        )
        return self._forward(parameters, first.add_(bias))[-1].transpose(1, 2)

    def losses_on_segments(
        self, starts: Tensor, ends: Tensor, alphas: Tensor, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """Losses [s, m] (float64), summed over examples, at m points on each of s segments.

        Only for networks with a hidden layer. The outputs of the first layer are linear in the parameters, so
        they are evaluated at the ends of segments and interpolated. An end that two consecutive segments
        share is evaluated once. ``starts`` and ``ends`` are [s, d], ``alphas`` [s, m].
        """
        sums = torch.zeros(alphas.shape, dtype=torch.float64, device=starts.device)
        nodes, before, after = _shared_ends(starts, ends)
        weight, bias = weights_of(self._layout, nodes)[0]
        width, inner = weight.shape[1:]
        matrix = weight.reshape(-1, inner)
        shares = alphas.to(starts.dtype)
        maps = self._later_layers(starts, ends, shares, head=width * inner)
        count = alphas.shape[1]
        layers: list[Tensor] = []
        for examples, y in chunks(inputs, targets, starts):
            x = examples.flatten(1)
            at_nodes = self._product(matrix, x).view(len(nodes), width, -1).add_(bias)
            if not layers or layers[0].shape[-1] != len(x):
                layers = [x.new_ones(count, m.shape[-1], len(x)) for m in maps]
                inner_rows = [layer[:, :-1] for layer in layers]  # all but the row of ones
                firsts = list(inner_rows[0])
                outputs = x.new_empty(count, maps[-1].shape[2], len(x))
            for s in range(len(starts)):
                low = at_nodes[before[s]]
                rise = at_nodes[after[s]] - low
                for into, share in zip(firsts, shares[s].tolist(), strict=True):
                    torch.add(low, rise, alpha=share, out=into)
                for layer in range(len(maps)):
                    self._activations[layer].apply_(inner_rows[layer])
                    above = outputs if layer == len(maps) - 1 else inner_rows[layer + 1]
                    torch.bmm(maps[layer][s], layers[layer], out=above)
                sums[s] += self._loss.column_sums_(outputs, y)
        return sums

    def _later_layers(
        self, starts: Tensor, ends: Tensor, shares: Tensor, head: int
    ) -> list[Tensor]:
        """Weights and bias [s, m, out, in + 1] of the layers after the first, at points of segments.

        The bias is appended as the weight of a constant input 1. This adds almost nothing to the product;
        adding the bias separately would take another pass over the outputs.
        """
        points = starts.new_empty(*shares.shape, starts.shape[1])
        torch.lerp(
            starts[:, None, head:], ends[:, None, head:], shares[..., None], out=points[..., head:]
        )
        parameters = weights_of(self._layout, points.flatten(0, 1))[1:]
        return [torch.cat(pair, dim=2).unflatten(0, shares.shape) for pair in parameters]


def _shared_ends(starts: Tensor, ends: Tensor) -> tuple[Tensor, list[int], list[int]]:
    """The ends of consecutive segments without repeats [n, d], and the indices of each segment's start and
    end."""
    rows, before, after = [starts[0]], [0], [1]
    rows.append(ends[0])
    for s in range(1, len(starts)):
        if not torch.equal(starts[s], ends[s - 1]):
            rows.append(starts[s])
        before.append(len(rows) - 1)
        rows.append(ends[s])
        after.append(len(rows) - 1)
    return torch.stack(rows), before, after


@dataclass(frozen=True)
class LinearStrategy:
    """Networks that `plan_of` knows, with a loss in closed form.

    Attributes:
        name: name of the strategy.
        product: function that computes the large products.
        cpu_only: whether the product needs oneDNN and a CPU.
    """

    name: str
    product: Product = blas
    cpu_only: bool = False

    holds_all_points: ClassVar[bool] = True
    needs_no_trial: ClassVar[bool] = True

    def allows(self, network: Network, situation: EvaluationContext) -> bool:
        """Whether device, precision, inputs, loss and network are supported by the hand-written backward
        pass."""
        loss, plan = network.loss, plan_of(network.module)
        if self.cpu_only and (situation.device != "cpu" or not has_onednn()):
            return False
        return (
            plan is not None
            and situation.precision != "bf16"
            and plan.takes(situation.inputs)
            and isinstance(loss, ClosedFormLoss)
            and loss.has_closed_form(situation.targets)
        )

    def make(self, network: Network) -> LinearEvaluator:
        """The evaluator of a network."""
        return LinearEvaluator(network, product=self.product)
