"""Several paths relaxed together for a short while by the string method (E, Ren & Vanden-Eijnden 2007).

Their peaks are where searches for saddles begin, so they need not converge. Each point takes
Barzilai-Borwein steps along the normal part of its gradient, cut to a part of the spacing; the points are
spread again at equal arc length every few steps.
"""

import torch
from torch import Tensor

from topo_core.critical_points.scaled_loss import ScaledLoss
from topo_core.paths.polyline import arc_positions, at_positions

_MOVE = 0.4  # longest step, in spacings
_FIRST = 0.1  # longest first step, in spacings
_GROW = 2.0  # most by which a step may grow at once
_SPREAD = 3  # steps between redistributions


def relaxed(loss: ScaledLoss, paths: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """``paths`` [p, n, d] after ``steps`` steps, and the losses [p, n] at their points."""
    paths = paths.clone()
    count, size, width = paths.shape
    losses = loss.losses(paths.reshape(-1, width)).reshape(count, size)
    before: Tensor | None = None
    moved = torch.zeros_like(paths[:, 1:-1])
    rate = paths.new_zeros(count, size - 2)
    for step in range(steps):
        f, g = loss.gradients(paths[:, 1:-1].reshape(-1, width))
        losses[:, 1:-1] = f.reshape(count, -1)
        g = g.reshape(count, size - 2, width).nan_to_num(0.0, 0.0, 0.0)
        tangent = _tangents(paths, losses)
        normal = g - (g * tangent).sum(-1, keepdim=True) * tangent
        length = normal.norm(dim=-1)
        spacing = paths.diff(dim=1).norm(dim=-1).mean(1, keepdim=True)
        if before is None:
            steepest = length.amax(1, keepdim=True).clamp_min(1e-300)
            rate = (_FIRST * spacing / steepest).expand_as(length)
        else:
            rate = _secant_rate(moved, normal - before, rate)
        cut = (_MOVE * spacing / (rate * length).clamp_min(1e-300)).clamp_max(1.0)
        before, moved = normal, -(rate * cut)[..., None] * normal
        paths[:, 1:-1] += moved
        if step % _SPREAD == _SPREAD - 1 or step == steps - 1:
            before, moved, rows = _spread(paths, before, moved, rate[..., None])
            rate = rows[..., 0]
    return paths, loss.losses(paths.reshape(-1, width)).reshape(count, size)


def _secant_rate(moved: Tensor, change: Tensor, rate: Tensor) -> Tensor:
    """Steps of Barzilai & Borwein (1988) [p, m] after moves and changes of the gradient [p, m, d]."""
    met, square = (moved * change).sum(-1), (change * change).sum(-1).clamp_min(1e-300)
    grown = _GROW * rate
    return torch.where(met > 0, torch.minimum(met / square, grown), grown)


def _spread(paths: Tensor, *carried: Tensor) -> list[Tensor]:
    """Spread the points of ``paths`` [p, n, d] in place, and what the moving ones carry [p, n - 2, c]."""
    positions = arc_positions(paths)
    wanted = torch.linspace(0, 1, paths.shape[1], dtype=torch.float64, device=paths.device)
    spread = list[Tensor]()
    for rows in carried:
        zero = torch.zeros_like(rows[:, :1])
        spread.append(at_positions(torch.cat([zero, rows, zero], 1), positions, wanted)[:, 1:-1])
    paths[:, 1:-1] = at_positions(paths, positions, wanted)[:, 1:-1]
    return spread


def _tangents(paths: Tensor, losses: Tensor) -> Tensor:
    """Improved tangents (Henkelman & Jónsson 2000) [p, n - 2, d]."""
    chords = paths.diff(dim=1)
    back, front = chords[:, :-1], chords[:, 1:]
    rise, fall = losses[:, 1:-1] - losses[:, :-2], losses[:, 2:] - losses[:, 1:-1]
    large = torch.maximum(rise.abs(), fall.abs())
    small = torch.minimum(rise.abs(), fall.abs())
    up, down = (rise > 0) & (fall > 0), (rise < 0) & (fall < 0)
    to_front = losses[:, 2:] > losses[:, :-2]
    ahead = torch.where(up, 1.0, torch.where(down, 0.0, torch.where(to_front, large, small)))
    behind = torch.where(up, 0.0, torch.where(down, 1.0, torch.where(to_front, small, large)))
    tangent = ahead[..., None].to(paths) * front + behind[..., None].to(paths) * back
    unit: Tensor = tangent / tangent.norm(dim=-1, keepdim=True).clamp_min(1e-300)
    return unit
