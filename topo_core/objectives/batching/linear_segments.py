"""Losses of fully connected networks on segments, for a GPU: the points of all segments at once.

`linear` evaluates one segment after another, so that activations stay in the cache of a CPU. On a GPU the
launches of such small products would dominate. So here the first layer at the ends of all segments is one
product, and each later layer at all points is one batched product.
"""

import torch
from torch import Tensor

from topo_core.objectives.batching.linear import activations_of, plan_of
from topo_core.objectives.batching.protocol import Network
from topo_core.objectives.losses.protocol import ClosedFormLoss


class LinearSegments:
    """Losses on segments for networks of the strategy `linear` with a hidden layer.

    The outputs of the first layer are linear in the parameters, so they are evaluated at the ends and
    interpolated.
    """

    def __init__(self, network: Network) -> None:
        plan = plan_of(network.module)
        assert plan is not None and isinstance(network.loss, ClosedFormLoss)
        self._layout, self._activations = network.layout, activations_of(plan)
        self._loss = network.loss

    def losses(
        self, starts: Tensor, ends: Tensor, alphas: Tensor, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """Losses [s, m] (float64), summed over examples; see `LinearEvaluator.losses_on_segments`."""
        segments = len(alphas)
        width, inner = self._layout.shapes[0]
        head = width * inner  # index of the first parameter after the weights of the first layer
        shares = alphas.to(starts.dtype)[:, :, None]
        matrix = torch.stack([starts[:, :head], ends[:, :head]]).view(-1, inner)
        low, high = (matrix @ inputs.flatten(1).T).view(2, segments, 1, width, -1)
        first = torch.lerp(low, high, shares[..., None]).flatten(0, 1)
        rest = torch.lerp(starts[:, None, head:], ends[:, None, head:], shares).flatten(0, 1)
        bias, *others = (
            part.unflatten(1, shape)
            for part, shape in zip(
                rest.split(self._layout.sizes[1:], dim=1), self._layout.shapes[1:], strict=True
            )
        )
        out = first.add_(bias[..., None])
        layers = zip(others[::2], others[1::2], self._activations, strict=True)
        for weight, bias, activation in layers:
            out = torch.baddbmm(bias[..., None], weight, activation.apply_(out))
        return self._loss.column_sums_(out, targets).view(alphas.shape)
