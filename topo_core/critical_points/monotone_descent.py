"""Descents from many points at once that keep their whole way: polylines along which the loss falls.

Each descent is L-BFGS (Liu & Nocedal 1989) with an initial inverse Hessian that is given, for example that of the
saddle a descent begins at, and a trust radius that grows only where the quadratic model is good. A step is taken only
where the loss falls. So a polyline leads to a minimum, and is no higher than its first point wherever the loss is
unimodal along a step; whoever needs a bound measures the polyline.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.critical_points.scaled_loss import ScaledLoss

_MEMORY = 30
_GROW, _SHRINK = 2.0, 0.35
_ARMIJO = 1e-4
_PARTS = (0.25, 0.5, 0.75)  # of a step, where its losses are looked at


@dataclass
class Descents:
    """The ends of k descents.

    Attributes:
        points: [k, d].
        losses: [k] float64.
        gradients: [k, d].
        decrements: [k], the predicted fall of the loss that was left.
        polylines: of each, [m, d], from its start to its end.
        converged: [k] bool.
    """

    points: Tensor
    losses: Tensor
    gradients: Tensor
    decrements: Tensor
    polylines: list[Tensor]
    converged: Tensor


def descend_together(
    loss: ScaledLoss,
    points: Tensor,
    *,
    radius: Tensor,
    longest: float,
    tolerance: float,
    steps: int,
    inverse: Callable[[Tensor, Tensor], Tensor] | None = None,
    refresh: int | None = None,
) -> Descents:
    """Descents from ``points`` [k, d].

    Args:
        loss: the loss.
        points: starts.
        radius: [k], longest first steps.
        longest: longest step of all.
        tolerance: predicted fall below which a descent has converged, a difference of losses.
        steps: at most.
        inverse: of rows i [m] and vectors [m, d], an approximate inverse Hessian of row i times the vector.
        refresh: steps after which the inverse Hessian is computed anew by d products, and again and again; None: never.
    """
    count = len(points)
    frames: tuple[Tensor, Tensor] | None = None
    x = points.clone()
    f, g = loss.gradients(x)
    r = radius.clone()
    alive = torch.arange(count, device=x.device)
    trail = [[row] for row in x]
    out = Descents(
        x.clone(), f.clone(), g.clone(), torch.full_like(r, float("inf")), [], torch.zeros_like(r, dtype=torch.bool)
    )
    moved_by: list[Tensor] = []
    changed: list[Tensor] = []
    for step in range(steps):
        if refresh is not None and (step + 1) % refresh == 0:
            frames, moved_by, changed = torch.linalg.eigh(loss.hessians(x)), [], []
        if frames is not None:
            s = -_two_loops(g, moved_by, changed, _of_frames(*frames))
        elif inverse is not None:
            now = alive
            s = -_two_loops(g, moved_by, changed, lambda v, rows=now: inverse(rows, v))
        else:
            s = -_two_loops(g, moved_by, changed, None)
        slope = (g * s).sum(1)
        bad = ~(slope < 0)
        if bool(bad.any()):
            s = torch.where(bad[:, None], -g, s)
            slope = torch.where(bad, -(g * g).sum(1), slope)
        noise = 4 * torch.finfo(f.dtype).eps * f.abs()
        done = (-slope <= tolerance) | (g.norm(dim=1) == 0)
        failed = ~f.isfinite() | (r <= 1e-12 * longest)
        stop = done | failed
        if bool(stop.any()):
            which = alive[stop]
            out.points[which], out.losses[which], out.gradients[which] = x[stop], f[stop], g[stop]
            out.decrements[which] = -0.5 * slope[stop]
            out.converged[which] = done[stop] & ~failed[stop]
            go = ~stop
            x, f, g, r, alive, s, slope, noise = (
                rows[go] for rows in (x, f, g, r, alive, s, slope, noise)
            )
            moved_by = [rows[go] for rows in moved_by]
            changed = [rows[go] for rows in changed]
            if frames is not None:
                frames = frames[0][go], frames[1][go]
            if len(alive) == 0:
                break
        size = s.norm(dim=1)
        cut = (r / size).clamp_max(1.0)
        s, slope = s * cut[:, None], slope * cut
        f_new, g_new = loss.gradients(x + s)
        # The loss must fall along all of the step, not only at its end.
        between = torch.cat([x + part * s for part in _PARTS])
        highest = loss.losses(between).reshape(len(_PARTS), -1).amax(0)
        y = g_new - g
        fall = f - f_new
        slope_new = (g_new * s).sum(1)
        accept = f_new.isfinite() & g_new.isfinite().all(1) & (highest <= f + noise) & (
            (fall >= -_ARMIJO * slope)
            | ((fall.abs() <= noise) & (slope_new.abs() <= 0.9 * slope.abs()))
        )
        predicted = -(slope + 0.5 * (slope_new - slope).clamp_max(0.0))
        good = accept & (slope_new <= 0.3 * slope.abs()) & (fall >= 0.3 * predicted.abs().clamp_max(1e300))
        size = size * cut
        r = torch.where(
            accept,
            torch.where(good & (cut < 1), (_GROW * r).clamp_max(longest), r),
            _SHRINK * torch.minimum(r, size),
        )
        curved = accept & ((s * y).sum(1) > 1e-10 * s.norm(dim=1) * y.norm(dim=1))
        moved_by.append(torch.where(curved[:, None], s, 0.0))
        changed.append(torch.where(curved[:, None], y, 0.0))
        moved_by, changed = moved_by[-_MEMORY:], changed[-_MEMORY:]
        x = torch.where(accept[:, None], x + s, x)
        f, g = torch.where(accept, f_new, f), torch.where(accept[:, None], g_new, g)
        for i in torch.nonzero(accept).flatten().tolist():
            trail[int(alive[i])].append(x[i])
    out.points[alive], out.losses[alive], out.gradients[alive] = x, f, g
    out.polylines = [torch.stack(rows) for rows in trail]
    return out


def _two_loops(
    g: Tensor,
    moved_by: list[Tensor],
    changed: list[Tensor],
    inverse: Callable[[Tensor], Tensor] | None,
) -> Tensor:
    """The inverse Hessian times ``g`` [k, d] by L-BFGS; rows of zeros in the memory are skipped pairs."""
    q = g.clone()
    weights = []
    for s, y in zip(reversed(moved_by), reversed(changed), strict=True):
        sy = (s * y).sum(1)
        a = torch.where(sy > 0, (s * q).sum(1) / sy, 0.0)
        q = q - a[:, None] * y
        weights.append((a, sy))
    if inverse is not None:
        q = inverse(q)
    elif moved_by:
        s, y = moved_by[-1], changed[-1]
        sy = (s * y).sum(1)
        q = q * torch.where(sy > 0, sy / (y * y).sum(1), 1.0)[:, None]
    for (s, y), (a, sy) in zip(zip(moved_by, changed, strict=True), reversed(weights), strict=True):
        b = torch.where(sy > 0, (y * q).sum(1) / sy, 0.0)
        q = q + (a - b)[:, None] * s
    return q


def _of_frames(values: Tensor, vectors: Tensor) -> Callable[[Tensor], Tensor]:
    """The product with the inverse of the modulus of Hessians with eigenvalues [k, d] and eigenvectors [k, d, d]."""
    size = values.abs().clamp_min(1e-10 * values.abs().amax(1, keepdim=True)).clamp_min(1e-300)

    def inverse(rows: Tensor) -> Tensor:
        parts = (vectors.mT @ rows[:, :, None])[:, :, 0] / size
        return (vectors @ parts[:, :, None])[:, :, 0]

    return inverse
