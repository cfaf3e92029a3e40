"""Descent to the minimum below a point, for losses with exact gradients."""

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective, Step


def descend(objective: Objective, point: Tensor, iterations: int = 500) -> Tensor:
    """The minimum below ``point`` [d], to the precision of its dtype; for exact gradients.

    First short secant steps that never go up, so that the valley of ``point`` is not left;
    then L-BFGS for the last digits.
    """
    step = Step(0, 0, 0)
    x = point.detach().clone()[None]
    (loss,), gradient = objective.gradients(x, step)
    size = 1e-3 / max(1.0, float(gradient.norm()))
    for _ in range(iterations):
        moved = x - size * gradient
        (new_loss,), new_gradient = objective.gradients(moved, step)
        if not new_loss <= loss:
            size *= 0.25
            continue
        change, move = (new_gradient - gradient).flatten(), (moved - x).flatten()
        bend = float(change @ move)
        grown = 2 * size
        size = min(grown, float(move @ move) / bend) if bend > 0 else grown
        x, loss, gradient = moved, new_loss, new_gradient
        if float(move.norm()) <= 1e-9 * max(1.0, float(x.norm())):
            break
    return _polished(objective, x, iterations)


def _polished(objective: Objective, point: Tensor, iterations: int) -> Tensor:
    """L-BFGS from ``point`` [1, d], close to a minimum."""
    x = point.clone().requires_grad_(True)
    lbfgs = torch.optim.LBFGS(
        [x],
        max_iter=iterations,
        tolerance_grad=1e-14,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def evaluate() -> Tensor:
        losses, gradients = objective.gradients(x.detach(), Step(0, 0, 0))
        x.grad = gradients
        return losses.sum()

    lbfgs.step(evaluate)
    return x.detach()[0]
