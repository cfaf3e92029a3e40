"""Bézier curves: their points, and where along them gradients are worth most.

A curve of degree m - 1 has m nodes: two ends, and m - 2 controls that are free. ``trained_curves`` trains
them.
"""

import functools
import math

import torch
from torch import Tensor

from topo_core.paths.polyline import at_positions, line, positions_of, resample
from topo_core.random_streams import generator

_GOLDEN = 0.6180339887498949  # (√5 - 1) / 2
_FINE = 257  # points on the curve from which points at equal arc length are taken


def curve(nodes: Tensor, times: Tensor) -> Tensor:
    """Points [..., k, d] at ``times`` [..., k] in [0, 1] of the curve of ``nodes`` [..., m, d].

    The first and the last node are its ends, those between them its controls.
    """
    return bernstein(times, nodes.shape[-2]).to(nodes.dtype) @ nodes


def bernstein(times: Tensor, nodes: int) -> Tensor:
    """Weights [..., k, nodes] of the control points at ``times`` [..., k]."""
    power, binomials = _powers(nodes, times.device)
    t = times[..., None]
    return binomials * t**power * (1 - t) ** (nodes - 1 - power)


@functools.cache  # on a GPU a transfer in every step would be waited for
def _powers(nodes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """i and the binomial coefficients of (nodes - 1, i), [nodes] float64."""
    binomials = [math.comb(nodes - 1, i) for i in range(nodes)]
    power = torch.arange(nodes, dtype=torch.float64, device=device)
    return power, torch.tensor(binomials, dtype=torch.float64, device=device)


def rotation(seed: int, steps: int) -> Tensor:
    """[steps] float64 in [0, 1), every stretch of which is spread evenly."""
    first = torch.rand(1, generator=generator(seed, "bezier"), dtype=torch.float64)
    return (first + _GOLDEN * torch.arange(steps, dtype=torch.float64)) % 1.0


class LossAlongCurve:
    """Where on each of p curves the next gradients are taken: more often where losses were high.

    Losses recorded so far are averaged in bins of t. The density of sampled points in a bin is 1 + 2 r²,
    where r is the loss of the bin over the mean of all bins; if one is negative, all are taken relative to
    the lowest.

    Args:
        losses: [p, BINS] float64, averages recorded before; zero where there are none.
    """

    BINS = 32

    # Weight of the old average: losses fall a hundredfold, and a bin is sampled a few dozen times.
    _MEMORY = 0.5

    def __init__(self, losses: Tensor) -> None:
        self.losses = losses
        edges = torch.linspace(0, 1, self.BINS + 1, dtype=losses.dtype, device=losses.device)
        self._edges = edges[:, None].expand(len(losses), -1, 1)

    def denser(self, evenly: Tensor) -> Tensor:
        """``evenly`` [p, n] in [0, 1), spread evenly, moved to where losses are high."""
        losses = self.losses - self.losses.amin(1, keepdim=True).clamp_max(0)
        mean = losses.mean(1, keepdim=True).clamp_min(1e-30)
        positions = positions_of(1 + 2 * (losses / mean).square())
        return at_positions(self._edges, positions, evenly)[..., 0]

    def record(self, times: Tensor, losses: Tensor) -> None:
        """Add losses [p, n] that were evaluated at ``times`` [p, n]."""
        bins = (times * self.BINS).long().clamp_max(self.BINS - 1)
        before = self.losses
        sums = torch.zeros_like(before).scatter_add_(1, bins, losses.to(before.dtype))
        counts = torch.zeros_like(before).scatter_add_(1, bins, torch.ones_like(times))
        now = sums / counts
        kept = torch.where(before != 0, torch.lerp(now, before, self._MEMORY), now)
        self.losses = torch.where(counts > 0, kept, before)


def polygon(nodes: Tensor, points: int) -> Tensor:
    """[points, d] of the curve of ``nodes`` [m, d] at equal arc length; of the line, if it is infinite."""
    if not bool(nodes.isfinite().all()):
        nodes = line(nodes[0], nodes[-1], len(nodes))
    times = torch.linspace(0, 1, _FINE, dtype=torch.float64, device=nodes.device)
    fine = curve(nodes, times)
    fine[0], fine[-1] = nodes[0], nodes[-1]
    return resample(fine, points)
