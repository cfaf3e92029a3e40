"""Exact losses, gradients and curvature at single points, and counts of how many were evaluated."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.critical_points.lanczos import lowest_eigenpairs
from topo_core.objectives.curvature import (
    full_gradients,
    has_exact_products,
    hessian_vector_products,
)
from topo_core.objectives.protocol import Objective
from topo_core.random_streams import generator

_SHORTEST = 1e-3
_NEIGHBOURS = 4  # points whose losses show the rounding
_CAUTION = 8.0  # times what these show
_LAST_PLACES = 64  # units in the last place of the loss itself
_FEW = 8  # products of an estimate of the largest curvature
_STATIONARY = {torch.float64: 1e-11, torch.float32: 1e-5}
_RESOLUTION = {
    (torch.float64, True): 1e-10,
    (torch.float64, False): 1e-6,
    (torch.float32, True): 1e-5,
    (torch.float32, False): 1e-3,
}


class CountedObjective:
    """An objective that counts rows of gradients and Hessian–vector products.

    Attributes:
        gradients: rows of gradients that were evaluated.
        products: Hessian–vector products that were evaluated.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective, self.gradients, self.products = objective, 0, 0

    def at(self, point: Tensor) -> tuple[float, Tensor]:
        """Loss, and gradient [d], at ``point`` [d]."""
        losses, gradients = self.batch(point[None])
        return float(losses[0]), gradients[0]

    def batch(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Losses [k] (float64) and gradients [k, d] at ``points`` [k, d]."""
        self.gradients += len(points)
        return full_gradients(self.objective, points)

    def product(self, point: Tensor, vector: Tensor) -> Tensor:
        """The Hessian at ``point`` [d] times ``vector`` [d]."""
        return self.products_of(point, vector[None])[0]

    def products_of(self, point: Tensor, vectors: Tensor) -> Tensor:
        """The Hessian at ``point`` [d] times each of ``vectors`` [k, d]."""
        self.products += len(vectors)
        points = point.expand(len(vectors), -1)
        return hessian_vector_products(self.objective, points, vectors)

    def resolution(self, point: Tensor) -> float:
        """Part of the largest curvature below which an eigenvalue is indistinguishable from zero.

        Rounding of exact second derivatives, or the error of central differences where there are none.
        """
        exact = has_exact_products(self.objective, point)
        return _RESOLUTION.get((point.dtype, exact), 1e-2)


def stationary_tolerance(
    largest_curvature: float, length: float, rounding: float, dtype: torch.dtype
) -> float:
    """Gradient norm below which a point counts as stationary.

    A part of the gradient that the largest curvature makes over ``length``, the size of the
    parameters: 1e-11 in float64 and 1e-5 in float32, some orders above the rounding of a gradient. It
    follows a rescaling of the loss or of the coordinates, and a shift of the loss changes nothing. Never less
    than the ``rounding`` of the gradient's norm.
    """
    return max(_STATIONARY.get(dtype, 1e-3) * largest_curvature * length, rounding)


@dataclass(frozen=True)
class Rounding:
    """By how much the loss, and the norm of the gradient, may be off at a point for rounding alone."""

    loss: float
    gradient: float


def measured_rounding(
    counted: CountedObjective, point: Tensor, loss: float, gradient: Tensor
) -> Rounding:
    """The rounding at ``point`` [d], from points that differ from it in the last digits only.

    It may exceed the last digits of the loss by far: where large terms cancel, or near a singularity.
    """
    eps = float(torch.finfo(point.dtype).eps)
    draw = generator("rounding")
    rows = torch.randn(_NEIGHBOURS, len(point), generator=draw, dtype=torch.float64).to(point)
    losses, gradients = counted.batch(point * (1 + 2 * eps * rows))
    spread = float((losses - loss).abs().max())
    noise = float(torch.linalg.vector_norm(gradients - gradient, dim=1).max())
    least = _LAST_PLACES * eps * abs(loss)
    return Rounding(
        max(least, _CAUTION * spread) if math.isfinite(spread) else least,
        _CAUTION * noise if math.isfinite(noise) else 0.0,
    )


def length_scale(*points: Tensor) -> float:
    """The size of the parameters: the largest norm of ``points`` [d], and at least 1e-3.

    A point at the origin says nothing of the size of a typical parameter.
    """
    return max(_SHORTEST, *(float(torch.linalg.vector_norm(point)) for point in points))


def largest_curvature(counted: CountedObjective, point: Tensor, seed: int = 0) -> float:
    """The largest |curvature| at ``point`` [d], within a factor of 2 or so: from a few products.

    0 where they are not finite.
    """
    draw = generator(seed, "largest curvature")
    start = torch.randn(len(point), generator=draw, dtype=torch.float64).to(point)
    pairs = lowest_eigenpairs(
        lambda vector: counted.product(point, vector), start, _FEW, max_products=_FEW
    )
    return pairs.largest
