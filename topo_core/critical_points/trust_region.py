"""One step of Newton's method in a trust region: conjugate gradients of Steihaug (1983).

The Hessian is known by its products. Where the curvature is negative along a direction of the
conjugate gradients, the step follows that direction to the edge of the region.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def newton_step(
    product: Callable[[Tensor], Tensor],
    gradient: Tensor,
    radius: float,
    *,
    accuracy: float,
    max_products: int,
) -> tuple[Tensor, float]:
    """The step [d] that lowers the quadratic model, at most ``radius`` long, and the fall it predicts.

    Args:
        product: the Hessian, [d] to [d].
        gradient: [d].
        radius: of the trust region.
        accuracy: residual of the linear equations at which the iteration ends, relative to the gradient's
            norm.
        max_products: largest number of products.
    """
    step, image = torch.zeros_like(gradient), torch.zeros_like(gradient)
    residual = -gradient
    direction = residual
    square = float(residual @ residual)
    enough = accuracy * math.sqrt(square)
    for _ in range(max_products):
        curved = product(direction)
        curvature = float(direction @ curved)
        if not math.isfinite(curvature):
            break
        far = square / curvature if curvature > 0 else math.inf
        if not curvature > 0 or float((step + far * direction).norm()) >= radius:
            edge = _to_edge(step, direction, radius)
            step, image = step + edge * direction, image + edge * curved
            break
        step, image = step + far * direction, image + far * curved
        residual = residual - far * curved
        before, square = square, float(residual @ residual)
        if math.sqrt(square) <= enough:
            break
        direction = residual + (square / before) * direction
    return step, -float(gradient @ step) - 0.5 * float(step @ image)


def _to_edge(step: Tensor, direction: Tensor, radius: float) -> float:
    """The positive t with |step + t direction| = radius."""
    a, b = float(direction @ direction), float(step @ direction)
    c = float(step @ step) - radius**2
    root = math.sqrt(max(b * b - a * c, 0.0))
    # The form without cancellation.
    return -c / (b + root) if b > 0 else (root - b) / a
