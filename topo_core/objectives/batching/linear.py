"""Fully connected networks: stacked products and a backward pass written out.

Activations are kept as [k, width, batch], so that every product is one batched matrix product. The
first layer holds most of the arithmetic, and all points share its input: it is a single product of all
their weights, and another one for all their gradients. Copying the weights together for it costs less
than a product a point loses, each of which would read the images from beyond the cache.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from topo_core.objectives.batching.flat_parameters import ParameterLayout
from topo_core.objectives.batching.matrix_products import Product, blas


def linear_layers(module: nn.Module) -> list[nn.Linear] | None:
    """The layers of [Flatten,] Linear, ReLU, …, Linear with biases; None for any other network."""
    if not isinstance(module, nn.Sequential):
        return None
    layers = list(module)
    if layers and isinstance(layers[0], nn.Flatten) and layers[0].start_dim == 1:
        layers = layers[1:]
    linear, between = layers[::2], layers[1::2]
    if not all(isinstance(layer, nn.Linear) and layer.bias is not None for layer in linear):
        return None
    if len(layers) % 2 == 0 or not all(type(layer) is nn.ReLU for layer in between):
        return None
    if not all(p.requires_grad for p in module.parameters()):
        return None
    return linear  # type: ignore[return-value]


class Linear:
    """Only for networks that `linear_layers` knows.

    Args:
        module, layout: the network.
        product: for the large products, those of the first layer.
    """

    def __init__(
        self, module: nn.Module, layout: ParameterLayout, *, product: Product = blas
    ) -> None:
        layers = linear_layers(module)
        if layers is None:
            raise ValueError("not a plain fully connected network")
        self.depth, self._layout, self._product = len(layers), layout, product

    def _parameters(self, points: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(weight [k, out, in], bias [k, out, 1]) of each layer."""
        views = list(self._layout.views(points).values())
        return [(views[2 * i], views[2 * i + 1][..., None]) for i in range(self.depth)]

    def _forward(self, parameters: list[tuple[Tensor, Tensor]], first: Tensor) -> list[Tensor]:
        """Activations after each layer, from the outputs of the first; the last are the logits."""
        activations = [first]
        for weight, bias in parameters[1:]:
            activations[-1].relu_()
            activations.append(torch.baddbmm(bias, weight, activations[-1]))
        return activations

    def gradients(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        losses, gradients = self.gradients_of_paths(points[None], inputs[None], targets[None])
        return losses[0], gradients[0]

    def gradients_of_paths(
        self, points: Tensor, inputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Losses [p, m] and gradients [p, m, d] at `points` [p, m, d], each path on its own minibatch.

        ``inputs`` are [p, b, ...] and ``targets`` [p, b]. The points of a path share its minibatch: one
        product of all their first weights, and another one for all their gradients.
        """
        paths, size, dimension = points.shape
        flat = points.reshape(paths * size, dimension)
        gradients = torch.empty_like(flat)
        parameters, into = self._parameters(flat), self._parameters(gradients)
        rows = inputs.flatten(2)
        weight, bias = parameters[0]
        width, inner = weight.shape[1:]
        first = self._products(weight.reshape(paths, size * width, inner), rows)
        activations = self._forward(parameters, first.view(len(flat), width, -1).add_(bias))
        index = targets[:, None, None].expand(-1, size, -1, -1).reshape(len(flat), 1, -1)
        losses, delta = _cross_entropy_(activations.pop(), index)
        for layer in range(self.depth - 1, 0, -1):
            weight, below = parameters[layer][0], activations[layer - 1]
            into[layer][0].copy_(torch.bmm(delta, below.transpose(1, 2)))
            torch.sum(delta, dim=2, keepdim=True, out=into[layer][1])
            delta = torch.bmm(weight.transpose(1, 2), delta)
            delta = torch.ops.aten.threshold_backward(delta, below, 0)
        product = self._products(delta.reshape(paths, size * width, -1), rows.transpose(1, 2))
        into[0][0].copy_(product.view(len(flat), width, inner))
        torch.sum(delta, dim=2, keepdim=True, out=into[0][1])
        return losses.view(paths, size), gradients.view(points.shape)

    def _products(self, a: Tensor, b: Tensor) -> Tensor:
        """a bᵀ [p, m, n] of a [p, m, k] and b [p, n, k]."""
        if self._product is blas:
            return torch.bmm(a, b.transpose(1, 2))
        products = [self._product(*pair) for pair in zip(a, b, strict=True)]
        return products[0][None] if len(products) == 1 else torch.stack(products)

    def logits(
        self, points: Tensor, inputs: Tensor, buffers: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        parameters = self._parameters(points)
        weight, bias = parameters[0]
        k, width, inner = weight.shape
        first = self._product(weight.reshape(k * width, inner), inputs.flatten(1)).view(
            k, width, -1
        )
        return self._forward(parameters, first.add_(bias))[-1].transpose(1, 2)

    def losses_on_segments(
        self, starts: Tensor, ends: Tensor, alphas: Tensor, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """Cross entropies [s, m] (float64), summed over examples, at places of s segments, m on each.

        Only for networks with a hidden layer.
        The first layer is linear in the parameters: it is evaluated at the ends and interpolated, and
        an end that two segments in a row share is evaluated once.
        """
        found = torch.zeros(alphas.shape, dtype=torch.float64, device=starts.device)
        nodes, before, after = _shared_ends(starts, ends)
        weight, bias = self._parameters(nodes)[0]
        width, inner = weight.shape[1:]
        matrix = weight.reshape(-1, inner)
        shares = alphas.to(starts.dtype)
        maps = self._later_layers(starts, ends, shares, head=width * inner)
        places = alphas.shape[1]
        layers: list[Tensor] = []
        for x, y in zip(
            inputs.flatten(1).split(_BLOCK),
            targets.expand(places, 1, -1).split(_BLOCK, 2),
            strict=True,
        ):
            at_nodes = self._product(matrix, x).view(len(nodes), width, -1).add_(bias)
            if not layers or layers[0].shape[-1] != len(x):
                layers = [x.new_ones(places, m.shape[-1], len(x)) for m in maps]
                inner_rows = [layer[:, :-1] for layer in layers]  # all but the row of ones
                firsts = list(inner_rows[0])
                logits = x.new_empty(places, maps[-1].shape[2], len(x))
            for s in range(len(starts)):
                low = at_nodes[before[s]]
                rise = at_nodes[after[s]] - low
                for into, share in zip(firsts, shares[s].tolist(), strict=True):
                    torch.add(low, rise, alpha=share, out=into)
                for layer in range(len(maps)):
                    inner_rows[layer].relu_()
                    above = logits if layer == len(maps) - 1 else inner_rows[layer + 1]
                    torch.bmm(maps[layer][s], layers[layer], out=above)
                found[s] += _summed_cross_entropy(logits, y)
        return found

    def _later_layers(
        self, starts: Tensor, ends: Tensor, shares: Tensor, head: int
    ) -> list[Tensor]:
        """Weights and bias [s, m, out, in + 1] of the layers after the first, at places of segments.

        The bias is a weight more, of an input that is always one: it costs nothing in a product, and a
        pass over the outputs beside it.
        """
        points = starts.new_empty(*shares.shape, starts.shape[1])
        torch.lerp(
            starts[:, None, head:], ends[:, None, head:], shares[..., None], out=points[..., head:]
        )
        parameters = self._parameters(points.flatten(0, 1))[1:]
        return [torch.cat(pair, dim=2).unflatten(0, shares.shape) for pair in parameters]


_BLOCK = 1000
"""Examples whose activations are held at once: many for the products, few for the cache."""


def _shared_ends(starts: Tensor, ends: Tensor) -> tuple[Tensor, list[int], list[int]]:
    """Different ends [n, d] of segments in a row, and the indices of each one's start and end."""
    rows, before, after = [starts[0]], [0], [1]
    rows.append(ends[0])
    for s in range(1, len(starts)):
        if not torch.equal(starts[s], ends[s - 1]):
            rows.append(starts[s])
        before.append(len(rows) - 1)
        rows.append(ends[s])
        after.append(len(rows) - 1)
    return torch.stack(rows), before, after


def _summed_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropies [k], summed in float64, of `logits` [k, classes, n] for `targets` [k, 1, n].

    Logits are taken relative to that of the target, which needs no maximum; they are used up. Where one
    is so much larger that its exponential overflows, the sum is infinite and is done in the careful way.
    """
    relative = logits.sub_(logits.gather(1, targets))
    found = torch.exp(relative).sum(dim=1).log_().sum(dim=1, dtype=torch.float64)
    if math.isfinite(float(found.sum())):
        return found
    return relative.logsumexp(dim=1).sum(dim=1, dtype=torch.float64)


def _cross_entropy_(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mean losses [k] of `logits` [k, classes, n] for `targets` [k, 1, n], and their gradient.

    The gradient takes the memory of the logits. Written out because `log_softmax` is slow along an axis
    that is not the innermost.
    """
    logits.sub_(logits.amax(dim=1, keepdim=True))
    chosen = logits.gather(1, targets)
    total = logits.exp_().sum(dim=1, keepdim=True)
    losses = (total.log() - chosen).mean(dim=(1, 2))
    delta = logits.div_(total)
    delta.scatter_add_(1, targets, delta.new_full((), -1.0).expand(targets.shape))
    return losses, delta.div_(targets.shape[-1])
