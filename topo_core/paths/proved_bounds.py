"""A proved upper bound of the highest loss on a polygon, for small fully connected networks.

A sampled maximum is a loss that the polygon reaches; how high it is between the samples is only estimated.
Here every chord is cut into pieces with a proved bound each (``objectives.interval_loss``). The pieces with
the highest bounds are halved until no bound exceeds the highest loss that was met by more than the tolerance.
"""

import heapq
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.objectives.interval_loss import IntervalLoss

_FIRST = 8  # pieces of a chord at first
_AT_ONCE = 64  # pieces bounded together


@dataclass(frozen=True)
class ProvedBound:
    """The highest loss on a polygon lies between two proved numbers.

    Attributes:
        reached: a loss that is reached on the polygon, up to rounding.
        upper: no loss on the polygon is higher.
        pieces: how many pieces were bounded.
        tight: whether ``upper`` is within the tolerance of ``reached``.
    """

    reached: float
    upper: float
    pieces: int
    tight: bool


def proved_maximum(
    loss: IntervalLoss, points: Tensor, *, tolerance: float = 1e-3, max_pieces: int = 100_000
) -> ProvedBound:
    """A proved bound of the highest loss on the polygon ``points`` [n, d].

    Args:
        loss: of the network.
        points: the polygon.
        tolerance: the bound may be this much higher than the highest loss that was met, in units of loss.
        max_pieces: to bound at most; the bound holds also where they do not suffice.

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
    """Both ends [k, d] of pieces, each inside one segment."""
    first = torch.tensor([a for a, _ in part], dtype=torch.float64)
    last = torch.tensor([b for _, b in part], dtype=torch.float64)
    segment = first.floor().long()
    start, end = points[segment], points[segment + 1]
    a, b = ((position - segment).to(points)[:, None] for position in (first, last))
    return torch.lerp(start, end, a), torch.lerp(start, end, b)
