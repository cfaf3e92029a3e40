"""A proved upper bound on the highest loss on a polygon, for small fully connected networks.

A sampled maximum is a lower bound: the loss between the samples is only estimated. Here every segment is cut
into pieces, and an upper bound is proved for each piece (``objectives.interval_loss``). The pieces with the
highest bounds are halved until no bound exceeds the highest evaluated loss by more than the tolerance.
"""

import heapq
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.objectives.interval_loss import IntervalLoss

_FIRST = 8  # initial pieces of a segment
_AT_ONCE = 64  # pieces whose bounds are computed in one call


@dataclass(frozen=True)
class ProvedBound:
    """The highest loss on a polygon lies between two proved numbers.

    Attributes:
        reached: highest loss evaluated on the polygon, up to rounding.
        upper: upper bound on all losses on the polygon.
        pieces: number of pieces whose bound was computed.
        tight: whether ``upper`` is within the tolerance of ``reached``.
    """

    reached: float
    upper: float
    pieces: int
    tight: bool


def proved_maximum(
    loss: IntervalLoss, points: Tensor, *, tolerance: float = 1e-3, max_pieces: int = 100_000
) -> ProvedBound:
    """Proved lower and upper bounds on the highest loss on the polygon ``points`` [n, d].

    Args:
        loss: the loss of the network.
        points: the polygon.
        tolerance: wanted difference of the upper bound and the highest evaluated loss, in units of loss.
        max_pieces: number of pieces after which the search stops; the bound holds even if it is not tight.

    Raises:
        ValueError: fewer than two points.
    """
    points = points.double()
    if points.ndim != 2 or len(points) < 2:
        raise ValueError(f"the path has shape {tuple(points.shape)}; it needs two points or more.")
    queue: list[tuple[float, float, float]] = []  # (−bound, first, last) in units of segments
    reached, count = -torch.inf, 0
    wanted = [
        (i + k / _FIRST, i + (k + 1) / _FIRST)
        for i in range(len(points) - 1)
        for k in range(_FIRST)
    ]
    while True:
        for first in range(0, len(wanted), _AT_ONCE):
            part = wanted[first : first + _AT_ONCE]
            middles, bounds = loss.upper(*_pieces(points, part))
            reached = max(reached, float(middles.max()))
            for bound, (a, b) in zip(bounds.tolist(), part, strict=True):
                heapq.heappush(queue, (-bound, a, b))
        count += len(wanted)
        upper = -queue[0][0]
        if upper <= reached + tolerance or count >= max_pieces:
            return ProvedBound(reached, upper, count, upper <= reached + tolerance)
        wanted = []
        while queue and len(wanted) < _AT_ONCE and -queue[0][0] > reached + tolerance:
            _, a, b = heapq.heappop(queue)
            wanted += [(a, 0.5 * (a + b)), (0.5 * (a + b), b)]


def _pieces(points: Tensor, part: list[tuple[float, float]]) -> tuple[Tensor, Tensor]:
    """The two ends [k, d] of k pieces, each of which lies within one segment."""
    first = torch.tensor([a for a, _ in part], dtype=torch.float64)
    last = torch.tensor([b for _, b in part], dtype=torch.float64)
    segment = first.floor().long()
    start, end = points[segment], points[segment + 1]
    a, b = ((position - segment).to(points)[:, None] for position in (first, last))
    return torch.lerp(start, end, a), torch.lerp(start, end, b)
