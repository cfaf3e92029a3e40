"""Displacements cut to a longest length."""

import torch
from torch import Tensor


def bounded_(moved: Tensor, bound: Tensor | None) -> Tensor:
    """``moved`` [k, d] with its rows cut to the lengths ``bound`` [k], in place."""
    if bound is None:
        return moved
    length = torch.linalg.vector_norm(moved, dim=-1)
    return moved.mul_(torch.where(length > bound, bound / length, 1.0)[..., None])
