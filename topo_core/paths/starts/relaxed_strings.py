"""Several paths relaxed together for a short while by the string method (E, Ren & Vanden-Eijnden 2007).

Their peaks are where searches for saddles begin, so they need not converge. Each point takes Barzilai-Borwein steps
along the normal part of its gradient, cut to a share of its spacing; in every step the points are spread
again at equal arc length.
"""

import torch
from torch import Tensor

from topo_core.critical_points.scaled_loss import ScaledLoss
from topo_core.paths.polyline import arc_positions, at_positions

_MOVE = 0.4  # longest step, in spacings
_FIRST = 0.1  # longest first step, in spacings
_GROW = 2.0
_SPREAD = 3


def relaxed(loss: ScaledLoss, paths: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """``paths`` [p, n, d] after ``steps`` steps, and the losses [p, n] at their points."""
    paths = paths.clone()
    count, size, width = paths.shape
    wanted = torch.linspace(0, 1, size, dtype=torch.float64, device=paths.device)
    losses = loss.losses(paths.reshape(-1, width)).reshape(count, size)
    before: Tensor | None = None
    moved = torch.zeros_like(paths[:, 1:-1])
    rate = paths.new_zeros(count, size - 2)
    for step in range(steps):
        inner = paths[:, 1:-1]
        f, g = loss.gradients(inner.reshape(-1, width))
        losses[:, 1:-1] = f.reshape(count, -1)
        g = g.reshape(count, size - 2, width).nan_to_num(0.0, 0.0, 0.0)
        tangent = _tangents(paths, losses)
        normal = g - (g * tangent).sum(-1, keepdim=True) * tangent
        spacing = (paths[:, -1] - paths[:, 0]).norm(dim=-1, keepdim=True) * 0 + (
            paths.diff(dim=1).norm(dim=-1).mean(1, keepdim=True)
        )
        length = normal.norm(dim=-1)
        if before is None:
            rate = (_FIRST * spacing / length.amax(1, keepdim=True).clamp_min(1e-300)).expand_as(rate)
        else:
            change = normal - before
            met = (moved * change).sum(-1)
            square = (change * change).sum(-1)
            grown = _GROW * rate
            rate = torch.where(met > 0, torch.minimum(met / square.clamp_min(1e-300), grown), grown)
        before = normal
        cut = (_MOVE * spacing / (rate * length).clamp_min(1e-300)).clamp_max(1.0)
        moved = -(rate * cut)[..., None] * normal
        paths[:, 1:-1] = inner + moved
        if step % _SPREAD == _SPREAD - 1 or step == steps - 1:
            positions = arc_positions(paths)
            for carried in (before, moved, rate[..., None]):
                padded = torch.cat([torch.zeros_like(carried[:, :1]), carried, torch.zeros_like(carried[:, :1])], 1)
                carried.copy_(at_positions(padded, positions, wanted)[:, 1:-1])
            paths[:, 1:-1] = at_positions(paths, positions, wanted)[:, 1:-1]
    return paths, loss.losses(paths.reshape(-1, width)).reshape(count, size)


def _tangents(paths: Tensor, losses: Tensor) -> Tensor:
    """Improved tangents (Henkelman & Jónsson 2000) [p, n - 2, d]."""
    steps = paths.diff(dim=1)
    back, front = steps[:, :-1], steps[:, 1:]
    rise, fall = losses[:, 1:-1] - losses[:, :-2], losses[:, 2:] - losses[:, 1:-1]
    big = torch.maximum(rise.abs(), fall.abs())
    small = torch.minimum(rise.abs(), fall.abs())
    up, down = (rise > 0) & (fall > 0), (rise < 0) & (fall < 0)
    higher_front = losses[:, 2:] > losses[:, :-2]
    w_front = torch.where(up, 1.0, torch.where(down, 0.0, torch.where(higher_front, big, small)))
    w_back = torch.where(up, 0.0, torch.where(down, 1.0, torch.where(higher_front, small, big)))
    t = w_front[..., None].to(paths) * front + w_back[..., None].to(paths) * back
    return t / t.norm(dim=-1, keepdim=True).clamp_min(1e-300)
