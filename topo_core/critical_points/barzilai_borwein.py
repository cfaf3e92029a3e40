"""The step length of Barzilai & Borwein (1988), for many points at once."""

import torch
from torch import Tensor

GROWTH = 2.0  # by which a step may grow at most: also where curvature is negative and fits no step


def secant_steps(moves: Tensor, changes: Tensor, previous: Tensor) -> Tensor:
    """The next step length [..., 1] of each point.

    The inverse of the curvature along the last move, which is s·y / y·y for a move s and the change y of the
    gradient over it; at most ``GROWTH`` times the previous step, and that where s·y is not positive.

    Args:
        moves: [..., d], the last displacements.
        changes: [..., d], of the gradients over them.
        previous: [..., 1], the step lengths that made the moves.
    """
    product = torch.linalg.vecdot(moves, changes)[..., None]
    square = torch.linalg.vecdot(changes, changes)[..., None]
    longest = GROWTH * previous
    positive = (product > 0) & (square > 0)
    return torch.where(positive, torch.minimum(product / square, longest), longest)
