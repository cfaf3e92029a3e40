"""Relaxes several paths together in a few steps of the string method (E, Ren & Vanden-Eijnden 2007).

Searches for saddles begin at the peaks of these paths, so the paths need not converge. Each point takes
Barzilai-Borwein steps along the normal part of its gradient, cut to a fraction of the spacing. Every few
steps the points are redistributed at equal arc length.
"""

import torch
from torch import Tensor

from topo_core.critical_points.barzilai_borwein import secant_steps
from topo_core.critical_points.scaled_loss import ScaledLoss
from topo_core.paths.polyline import arc_positions, at_positions
from topo_core.paths.tangents.improved import upwind_weights

_MOVE = 0.4  # longest step, in units of the spacing
_FIRST = 0.1  # longest first step, in units of the spacing
_SPREAD = 3  # steps between redistributions


def relaxed(loss: ScaledLoss, paths: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """``paths`` [p, n, d] after ``steps`` steps, and the losses [p, n] at their points."""
    paths = paths.clone()
    count, size, width = paths.shape
    losses = loss.losses(paths.reshape(-1, width)).reshape(count, size)
    before: Tensor | None = None
    moved = torch.zeros_like(paths[:, 1:-1])
    rate = paths.new_zeros(count, size - 2, 1)
    for step in range(steps):
        f, g = loss.gradients(paths[:, 1:-1].reshape(-1, width))
        losses[:, 1:-1] = f.reshape(count, -1)
        g = g.reshape(count, size - 2, width).nan_to_num(0.0, 0.0, 0.0)
        tangent = _tangents(paths, losses)
        normal = g - (g * tangent).sum(-1, keepdim=True) * tangent
        length = normal.norm(dim=-1, keepdim=True)
        spacing = paths.diff(dim=1).norm(dim=-1).mean(1)[:, None, None]
        if before is None:
            steepest = length.amax(1, keepdim=True).clamp_min(1e-300)
            rate = (_FIRST * spacing / steepest).expand_as(length)
        else:
            rate = secant_steps(moved, normal - before, rate)
        cut = (_MOVE * spacing / (rate * length).clamp_min(1e-300)).clamp_max(1.0)
        before, moved = normal, -(rate * cut) * normal
        paths[:, 1:-1] += moved
        if step % _SPREAD == _SPREAD - 1 or step == steps - 1:
            before, moved, rate = _spread(paths, before, moved, rate)
    return paths, loss.losses(paths.reshape(-1, width)).reshape(count, size)


def _spread(paths: Tensor, *carried: Tensor) -> list[Tensor]:
    """Redistribute the points of ``paths`` [p, n, d] in place.

    Returns:
        The tensors ``carried`` [p, n - 2, c], which have a row for each moving point, interpolated likewise.
    """
    positions = arc_positions(paths)
    wanted = torch.linspace(0, 1, paths.shape[1], dtype=torch.float64, device=paths.device)
    spread = list[Tensor]()
    for rows in carried:
        zero = torch.zeros_like(rows[:, :1])
        spread.append(at_positions(torch.cat([zero, rows, zero], 1), positions, wanted)[:, 1:-1])
    paths[:, 1:-1] = at_positions(paths, positions, wanted)[:, 1:-1]
    return spread


def _tangents(paths: Tensor, losses: Tensor) -> Tensor:
    """Improved tangents (Henkelman & Jónsson 2000), unit vectors [p, n - 2, d]."""
    chords = paths.diff(dim=1)
    back, front = (w[..., None].to(paths) for w in upwind_weights(losses.unfold(1, 3, 1)))
    tangent = front * chords[:, 1:] + back * chords[:, :-1]
    unit: Tensor = tangent / tangent.norm(dim=-1, keepdim=True).clamp_min(1e-300)
    return unit
