"""Optimisers of the points of a path: they turn a descent direction into a displacement.

Each acts on the rows of [k, d] independently, and keeps what it remembers in *slots*, tensors
[n, c] with one row for each point of the path. A slot is a function along the curve, so when
points are redistributed or inserted it is interpolated exactly as they are.

``sgd``, ``momentum`` (heavy ball), ``adam`` (Kingma & Ba 2015) are the usual ones, applied to
the normal component. ``lion`` (Chen et al. 2023) moves every coordinate by the rate, in the direction of
the sign of an average. ``secant`` needs no learning rate: each point takes the step of Barzilai
& Borwein (1988), the inverse of the curvature that its last displacement met. It needs exact
gradients, and a bound on displacements (``PathSettings.max_move``) makes it safe.
"""

import torch
from torch import Tensor

from topo_core.paths.update_settings import OptimizerSettings

Slots = dict[str, Tensor]

_GROWTH = 2.0  # most by which a secant step may grow at once: where curvature is negative, too
_FIRST_MOVE = 0.02  # the first secant displacement of the steepest point, in spacings


def empty_slots(settings: OptimizerSettings, points: Tensor) -> Slots:
    """The slots of a path ``points`` [n, d] before its first step."""
    row, scalar = torch.zeros_like(points), points.new_zeros(len(points), 1)
    if settings.name == "momentum":
        return {"velocity": row}
    if settings.name == "adam":
        return {"mean": row, "square": row.clone(), "count": scalar}
    if settings.name == "lion":
        return {"mean": row}
    if settings.name == "secant":
        return {"previous": row, "moved": row.clone(), "step": scalar}
    return {}


def displacement(
    settings: OptimizerSettings,
    slots: Slots,
    normal: Tensor,
    rate: float,
    *,
    spacing: Tensor,
    max_move: float | None,
) -> Tensor:
    """The displacements [k, d] of k points, to be subtracted.

    For p paths every tensor has an axis more, the first.

    Args:
        settings: the method.
        slots: rows of the k points; what is to be remembered is written into them.
        normal: [k, d], the direction to descend along; used up, the displacements may lie in its memory.
        rate: the learning rate of this step.
        spacing: [k], distance to the nearer neighbour.
        max_move: longest displacement in units of ``spacing``; None for no bound.
    """
    bound = None if max_move is None else max_move * spacing
    if settings.name == "momentum":
        velocity = slots["velocity"]
        torch.add(normal, velocity, alpha=settings.momentum, out=velocity)
        return _bounded(torch.mul(velocity, rate, out=normal), bound)
    if settings.name == "adam":
        return _bounded(_adam(settings, slots, normal, rate), bound)
    if settings.name == "lion":
        return _bounded(_lion(settings, slots, normal, rate), bound)
    if settings.name == "secant":
        step = _secant_step(slots, normal, spacing)
        slots["step"].copy_(step)
        slots["previous"].copy_(normal)
        moved = _bounded(normal.mul_(step), bound)
        slots["moved"].copy_(moved)
        return moved
    if bound is None:
        return normal.mul_(rate)
    longest = bound / torch.linalg.vector_norm(normal, dim=-1).clamp_min(1e-30)
    return normal.mul_(longest.clamp_max(rate)[..., None])


def _bounded(moved: Tensor, bound: Tensor | None) -> Tensor:
    """``moved`` with its rows cut to the lengths ``bound`` [k], in place."""
    if bound is None:
        return moved
    length = torch.linalg.vector_norm(moved, dim=-1)
    return moved.mul_(torch.where(length > bound, bound / length, 1.0)[..., None])


def _adam(settings: OptimizerSettings, slots: Slots, normal: Tensor, rate: float) -> Tensor:
    first, second = settings.betas
    mean = slots["mean"].lerp_(normal, 1 - first)
    square = slots["square"].mul_(second).addcmul_(normal, normal, value=1 - second)
    # Counted for each point: a random subset moves in a step, and new points come later.
    count = slots["count"].add_(1)
    step = rate / (1 - first**count)
    scale = torch.div(square, 1 - second**count, out=normal).sqrt_().add_(settings.eps)
    return torch.div(mean, scale, out=scale).mul_(step)


def _lion(settings: OptimizerSettings, slots: Slots, normal: Tensor, rate: float) -> Tensor:
    near, far = settings.betas
    mean = slots["mean"]
    sign = torch.lerp(normal, mean, near).sign_()
    mean.lerp_(normal, 1 - far)
    return torch.mul(sign, rate, out=normal)


def _secant_step(slots: Slots, normal: Tensor, spacing: Tensor) -> Tensor:
    change = normal - slots["previous"]
    met = torch.linalg.vecdot(slots["moved"], change).neg_()[..., None]
    bend = torch.linalg.vecdot(change, change)[..., None]
    old = slots["step"]
    norms = torch.linalg.vector_norm(normal, dim=-1)
    steepest = norms.amax(-1, keepdim=True).clamp_min(1e-30)
    first = (_FIRST_MOVE * spacing / steepest)[..., None]
    grown = old * _GROWTH
    step = torch.where((met > 0) & (bend > 0), torch.minimum(met / bend, grown), grown)
    return torch.where(old > 0, step, first)
