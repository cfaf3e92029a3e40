"""Bézier curves: their points, and the parameters t at which gradients are evaluated in training.

A curve of degree m - 1 has m nodes: two ends and m - 2 free control points. ``trained_curves`` trains the
control points.
"""

import functools
import math

import torch
from torch import Tensor

from topo_core.paths.coordinate_units import resample_in
from topo_core.paths.polyline import at_positions, line, positions_of
from topo_core.random_streams import generator

_GOLDEN = 0.6180339887498949  # (√5 - 1) / 2
_FINE = 257  # points on the curve between which points at equal arc length are interpolated


def curve(nodes: Tensor, times: Tensor) -> Tensor:
    """Points [..., k, d] at ``times`` [..., k] in [0, 1] of the curve of ``nodes`` [..., m, d].

    The first and the last node are the ends of the curve; the others are its control points.
    """
    return bernstein(times, nodes.shape[-2]).to(nodes.dtype) @ nodes


def bernstein(times: Tensor, nodes: int) -> Tensor:
    """Weights [..., k, nodes] of the nodes at ``times`` [..., k]."""
    power, binomials = _powers(nodes, times.device)
    t = times[..., None]
    return binomials * t**power * (1 - t) ** (nodes - 1 - power)


@functools.cache  # without the cache every step would wait for a transfer to the GPU
def _powers(nodes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The indices i from 0 to nodes - 1, and the binomial coefficients (nodes - 1 over i): [nodes] float64
    each."""
    binomials = [math.comb(nodes - 1, i) for i in range(nodes)]
    power = torch.arange(nodes, dtype=torch.float64, device=device)
    return power, torch.tensor(binomials, dtype=torch.float64, device=device)


def rotation(seed: int, steps: int) -> Tensor:
    """A sequence [steps] float64 in [0, 1); every consecutive part of it covers the interval evenly."""
    first = torch.rand(1, generator=generator(seed, "bezier"), dtype=torch.float64)
    return (first + _GOLDEN * torch.arange(steps, dtype=torch.float64)) % 1.0


class LossAlongCurve:
    """The parameters t at which gradients on each of p curves are evaluated: denser where losses were high.

    Recorded losses are averaged in bins of t. The density of sampled points in a bin is 1 + 2 r², where r is
    the average loss of the bin over the mean of all bins. If an average is negative, the lowest one is
    subtracted from all.

    Args:
        losses: [p, BINS] float64, average losses so far; zero in bins without a loss.
    """

    BINS = 32

    # Weight of the old average. It is small, since losses fall a hundredfold in a few dozen samples of a bin.
    _MEMORY = 0.5

    def __init__(self, losses: Tensor) -> None:
        self.losses = losses
        edges = torch.linspace(0, 1, self.BINS + 1, dtype=losses.dtype, device=losses.device)
        self._edges = edges[:, None].expand(len(losses), -1, 1)

    def denser(self, evenly: Tensor) -> Tensor:
        """Evenly spread parameters ``evenly`` [p, n] in [0, 1), shifted towards bins with high losses."""
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


def polygon(nodes: Tensor, points: int, units: Tensor | None = None) -> Tensor:
    """``points`` points [points, d] at equal arc length on the curve of ``nodes`` [m, d].

    Lengths are in the ``units`` [d] of the coordinates; None for the given ones. If a node is not finite, the
    points are on the straight line between the ends.
    """
    if not bool(nodes.isfinite().all()):
        nodes = line(nodes[0], nodes[-1], len(nodes))
    times = torch.linspace(0, 1, _FINE, dtype=torch.float64, device=nodes.device)
    fine = curve(nodes, times)
    fine[0], fine[-1] = nodes[0], nodes[-1]
    return resample_in(units, fine, points)
