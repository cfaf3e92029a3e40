"""Hessian–vector products of a network's loss over a data set, exact and chunk by chunk.

The product is the gradient of ⟨∇L(θ), v⟩ (Pearlmutter 1994), by a second backward pass through the network's
own forward pass: about three gradients.
"""

import torch
from torch import Tensor

from topo_core.objectives.batching.protocol import Network
from topo_core.objectives.functional_network import FunctionalNetwork
from topo_core.objectives.minibatches import chunks


class NetworkCurvature:
    """Curvature of the mean of a network's loss function.

    Args:
        network: in training mode.
        smallest: fewest examples of a chunk.
    """

    def __init__(self, network: Network, smallest: int = 1) -> None:
        self._network, self._smallest = network, smallest
        self._call = FunctionalNetwork(network.module)

    def products(self, points: Tensor, vectors: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """Hessians at `points` [k, d] times `vectors` [k, d]: [k, d].

        Raises:
            NotImplementedError: the network has an operation without a second derivative in PyTorch.
        """
        total = torch.zeros_like(points, dtype=torch.float64)
        for x, y in chunks(inputs, targets, self._smallest):
            for row, (point, vector) in enumerate(zip(points, vectors, strict=True)):
                total[row] += self._product(point, vector, x, y).double() * len(x)
        return (total / len(inputs)).to(points.dtype)

    def _product(self, point: Tensor, vector: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        network = self._network
        row = point.detach().requires_grad_(True)
        with torch.enable_grad():
            outputs = self._call(network.layout.views(row), inputs)
            loss = network.loss.mean(outputs, targets)
            (gradient,) = torch.autograd.grad(loss, row, create_graph=True)
            slope = gradient @ vector.detach()
        if not slope.requires_grad:  # a loss that is linear in the parameters
            return torch.zeros_like(point)
        try:
            (product,) = torch.autograd.grad(slope, row, materialize_grads=True)
        except RuntimeError as error:
            if "derivative" not in str(error):
                raise
            raise NotImplementedError(str(error).splitlines()[0]) from None
        return product
