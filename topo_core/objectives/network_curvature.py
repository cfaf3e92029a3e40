"""Hessian–vector products of a network's loss over a data set, exact and chunk by chunk.

The product is the gradient of ⟨∇L(θ), v⟩ (Pearlmutter 1994), by a second backward pass through the network's
own forward pass: about three gradients.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from topo_core.objectives.batching.protocol import Network
from topo_core.objectives.functional_network import FunctionalNetwork
from topo_core.objectives.linear_curvature import LinearCurvature, is_supported
from topo_core.objectives.minibatches import chunks


class NetworkCurvature:
    """Curvature of the mean of a network's loss function.

    Args:
        network: in training mode, without batch norm (``batch_norm_curvature`` is for networks with it).
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._call = FunctionalNetwork(network.module)

    def products(self, points: Tensor, vectors: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """Hessians at `points` [k, d] times `vectors` [k, d]: [k, d].

        Raises:
            NotImplementedError: the network has an operation without a second derivative in PyTorch.
        """
        total = torch.zeros_like(points, dtype=torch.float64)
        for x, y in chunks(inputs, targets, points):
            for row, (point, vector) in enumerate(zip(points, vectors, strict=True)):
                total[row] += self._product(point, vector, x, y).double() * len(x)
        return (total / len(inputs)).to(points.dtype)

    def _product(self, point: Tensor, vector: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        network = self._network

        def loss_at(row: Tensor) -> Tensor:
            outputs = self._call(network.layout.views(row), inputs)
            return network.loss.mean(outputs, targets)

        return hessian_vector_product(loss_at, point, vector)


def curvature_of(network: Network, inputs: Tensor) -> NetworkCurvature | LinearCurvature:
    """The curvature of a network without batch norm on `inputs` [n, ...]: the fast form where the network is
    fully connected."""
    fast = is_supported(network, inputs)
    return LinearCurvature(network) if fast else NetworkCurvature(network)


def hessian_vector_product(
    loss_at: Callable[[Tensor], Tensor], point: Tensor, vector: Tensor
) -> Tensor:
    """The Hessian of ``loss_at``, [d] to a scalar, at ``point`` [d] times ``vector`` [d].

    Raises:
        NotImplementedError: the loss has an operation without a second derivative in PyTorch.
    """
    row = point.detach().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(loss_at(row), row, create_graph=True)
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
