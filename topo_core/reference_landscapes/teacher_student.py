"""Two-layer ReLU students that learn a ReLU teacher; the expectation over the inputs is in closed form.

L(w) = ½ E (Σ relu(wᵢ·x) − Σ relu(eᵢ·x))² over Gaussian x, with k student and k teacher units in k dimensions.
Safran & Shamir, "Spurious local minima are common in two-layer ReLU neural networks" (2018): for 6 ≤ k ≤ 20
minima above zero exist. The kernel is that of Cho & Saul (2009). Angles are computed from differences of
unit vectors: the arc cosine would lose half of the digits where student and teacher agree.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from topo_core.reference_landscapes.landscape import Landscape, landscape_of

SPURIOUS: Mapping[int, float] = {6: 0.02508058, 7: 0.02320271, 8: 0.02150804, 10: 0.01870219}
"""Losses of the spurious minimum, by k."""

LOWEST_PASSES: Mapping[int, float] = {6: 0.02509233, 7: 0.02343104, 8: 0.02215840, 10: 0.02040311}
"""Lowest known passes from the spurious minimum to loss 0, by k; found by search, so they are upper
bounds."""

SECOND_SPURIOUS = 0.03532688
"""Loss of a second spurious minimum for k = 10."""

SECOND_PASS = 0.035864
"""Lowest pass known from there to the first spurious minimum."""


def teacher_student(k: int = 6) -> Landscape:
    """Minimum 0 is the teacher itself, of loss 0; minimum 1 the spurious one; for k = 10 a third follows.

    All k! permutations of the student's units are copies. The lowest pass known from a spurious minimum leads
    to some copies of the lower minimum and not to others; those listed are joined by it. ``passes`` are the
    lowest ones known.

    Raises:
        ValueError: the losses of another k are not listed here.
    """
    if k not in SPURIOUS:
        raise ValueError(f"k is {k}; the spurious minima are known for k = {sorted(SPURIOUS)}.")
    near = [(torch.eye(k, dtype=torch.float64) + 0.01).flatten().tolist(), _start(k, 1)]
    passes = {(0, 1): LOWEST_PASSES[k]}
    if k == 10:
        near.append(_start(k, 2))
        passes[1, 2] = SECOND_PASS
    return landscape_of(lambda points: _loss(points.reshape(-1, k, k)), near, passes)


def _start(k: int, turned: int) -> list[float]:
    """A point near a minimum at which ``turned`` of the student's units point away from their teachers.

    For one such unit, it is numbered before the last of the others.
    """
    rest = k - turned
    weights = torch.full((k, k), -0.02, dtype=torch.float64)
    weights[:rest, rest:], weights[rest:, :rest], weights[rest:, rest:] = 0.2, 0.13, 0.15
    weights.diagonal()[:rest], weights.diagonal()[rest:] = 1.0, -0.7
    if turned == 1:
        weights[-2:] = weights[-2:].flip(0)
    flat: list[float] = weights.flatten().tolist()
    return flat


def _loss(students: Tensor) -> Tensor:
    """[n], of ``students`` [n, k, k], one unit a row."""
    k = students.shape[1]
    sizes = torch.linalg.vector_norm(students, dim=2)
    i, j = torch.triu_indices(k, k, 1, device=students.device)
    among = 2 * _kernel(students[:, i], students[:, j]).sum(1) + 0.5 * sizes.square().sum(1)
    teachers = torch.eye(k, dtype=students.dtype, device=students.device)
    across = _kernel(
        students[:, :, None].expand(-1, k, k, k), teachers.expand(len(students), k, k, k)
    ).sum((1, 2))
    constant = 0.5 * k + k * (k - 1) / (2 * math.pi)
    losses: Tensor = 0.5 * (among - 2 * across + constant)
    return losses


def _kernel(one: Tensor, other: Tensor) -> Tensor:
    """E relu(u·x) relu(v·x) of vectors [..., d]: |u||v| (sin t + (π − t) cos t) / 2π at an angle t."""
    first, second = torch.linalg.vector_norm(one, dim=-1), torch.linalg.vector_norm(other, dim=-1)
    u, v = one / first[..., None], other / second[..., None]
    # The square root has no derivative at 0, where the vectors agree.
    apart = (u - v).square().sum(-1).clamp_min(1e-300).sqrt()
    together = (u + v).square().sum(-1).clamp_min(1e-300).sqrt()
    angle = 2 * torch.atan2(apart, together)
    unit = angle.sin() + (math.pi - angle) * (u * v).sum(-1)
    kernel: Tensor = first * second / (2 * math.pi) * unit
    return kernel
