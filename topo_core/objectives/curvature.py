"""Exact gradients and Hessian–vector products of any objective: the only ones in this project.

An objective that implements ``CurvatureObjective`` differentiates twice, which is exact to rounding. For
any other objective the product is a central difference of exact gradients (relative error about eps^(2/3)).
Neither describes a loss at a kink (ReLU, max-pooling); ``critical_points.kinks`` tells kinks apart.
"""

import torch
from torch import Tensor

from topo_core.objectives.protocol import CurvatureObjective, Objective, Step

_STEP = Step(0, 0, 0)  # a placeholder: exact gradients do not depend on the step


def full_gradients(objective: Objective, points: Tensor) -> tuple[Tensor, Tensor]:
    """Losses [k] (float64) and gradients [k, d] at ``points`` [k, d], over the whole training set.

    Raises:
        ValueError: the objective has only gradients on minibatches.
    """
    if isinstance(objective, CurvatureObjective):
        return objective.full_gradients(points)
    if objective.batches != 1:
        raise ValueError(
            f"the objective has {objective.batches} minibatches and no full_gradients method, so "
            "its exact gradient is unknown; give the method, or an objective with batches = 1."
        )
    losses, gradients = objective.gradients(points, _STEP)
    return losses.to(torch.float64), gradients


def hessian_vector_products(objective: Objective, points: Tensor, vectors: Tensor) -> Tensor:
    """The Hessian at ``points[i]`` times ``vectors[i]``, for each row: [k, d].

    From exact second derivatives where the objective has them and they are finite, else by
    ``central_difference_products``.

    Args:
        objective: the loss.
        points: [k, d].
        vectors: [k, d], of any length.

    Raises:
        ValueError: second derivatives must be approximated, and the objective has only gradients
            on minibatches.
    """
    if isinstance(objective, CurvatureObjective):
        try:
            products = objective.hessian_vector_products(points, vectors)
        except NotImplementedError:  # an operation without a second derivative, such as cdist
            return central_difference_products(objective, points, vectors)
        singular = ~products.isfinite().all(1)  # such as of |x|^1.5 at 0
        if bool(singular.any()):
            products = products.clone()
            products[singular] = central_difference_products(
                objective, points[singular], vectors[singular]
            )
        return products
    return central_difference_products(objective, points, vectors)


def has_exact_products(objective: Objective, point: Tensor) -> bool:
    """Whether Hessian–vector products at ``point`` [d] come from second derivatives."""
    if not isinstance(objective, CurvatureObjective):
        return False
    try:
        objective.hessian_vector_products(point[None], torch.zeros_like(point)[None])
    except NotImplementedError:
        return False
    return True


def default_difference(points: Tensor) -> Tensor:
    """The distance h [k] of a central difference at ``points`` [k, d]: eps^(1/3) (1 + largest |θ|).

    It balances the rounding error, eps / h, and the truncation error, h².
    """
    distances: Tensor = torch.finfo(points.dtype).eps ** (1 / 3) * (1 + points.abs().amax(1))
    return distances


def central_difference_products(objective: Objective, points: Tensor, vectors: Tensor) -> Tensor:
    """As ``hessian_vector_products``, from the gradients at two points in each direction.

    The points are ``default_difference`` away.
    """
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=1)
    distances = default_difference(points)
    # For a zero vector the product is zero; its length must not be a divisor.
    scales = (distances / torch.where(lengths > 0, lengths, 1.0))[:, None]
    moves = scales * vectors
    _, gradients = full_gradients(objective, torch.cat([points + moves, points - moves]))
    ahead, behind = gradients.chunk(2)
    products: Tensor = (ahead - behind) / (2 * scales)
    return products
