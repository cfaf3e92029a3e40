"""Descents as polygons with decreasing losses, and the highest loss on the strip between two of them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective

_RUNG = 5  # samples on a segment that joins two points of equal loss


@dataclass(frozen=True, eq=False)
class DescentCurve:
    """A descent as a polygon.

    Attributes:
        points: [k, d].
        levels: [k], strictly decreasing: the lowest loss so far; equal ones differ by less than rounding.
        end: the minimum in its last point; None for one that is not known.
    """

    points: Tensor
    levels: Tensor
    end: int | None

    @classmethod
    def of(cls, points: Tensor, losses: Tensor, end: int | None) -> "DescentCurve":
        """The curve through ``points`` [k, d] with ``losses`` [k] that ends at the minimum ``end``."""
        apart = 1e-13 * max(1e-300, float(losses.max() - losses.min()))
        ranks = torch.arange(len(losses), dtype=losses.dtype, device=losses.device)
        return cls(points, losses.cummin(0).values - apart * ranks, end)

    def at(self, levels: Tensor) -> Tensor:
        """The points [k, d] at ``levels`` [k]; the ends where these are outside."""
        if len(self.levels) == 1:
            return self.points.expand(len(levels), -1)
        right = torch.searchsorted(-self.levels, -levels).clamp(1, len(self.levels) - 1)
        high, low = self.levels[right - 1], self.levels[right]
        part = ((high - levels) / (high - low)).clamp(0, 1).to(self.points)[:, None]
        return (1 - part) * self.points[right - 1] + part * self.points[right]

    def above(self, level: Tensor, last: Tensor) -> "DescentCurve":
        """The part above ``level``, then the point at it, then the point ``last`` [d]."""
        kept = self.levels > level
        points = torch.cat([self.points[kept], self.at(level[None]), last[None]])
        below = level - 1e-12 * (self.levels[0] - self.levels[-1]).abs()
        return DescentCurve(points, torch.cat([self.levels[kept], level[None], below[None]]), None)

    def below(self, level: Tensor) -> "DescentCurve":
        """The part below ``level``, from the point at it on."""
        kept = self.levels < level
        points = torch.cat([self.at(level[None]), self.points[kept]])
        return DescentCurve(points, torch.cat([level[None], self.levels[kept]]), self.end)


def strip_heights(
    objective: Objective, one: DescentCurve, other: DescentCurve
) -> tuple[float, float]:
    """The highest loss sampled between two curves, and a bound on the loss between the samples.

    The bound adds to each sample its largest difference to a neighbour.
    """
    levels = torch.cat([one.levels, other.levels]).sort(descending=True).values
    first, second = one.at(levels), other.at(levels)
    parts = torch.linspace(0, 1, _RUNG, dtype=first.dtype, device=first.device)[:, None]
    points = first[:, None] + parts * (second - first)[:, None]
    losses = objective.losses(points.flatten(0, 1)).reshape(len(levels), _RUNG)
    change = torch.zeros_like(losses)
    for axis in (0, 1):
        size = losses.shape[axis]
        step = losses.diff(dim=axis).abs()
        for start in (0, 1):
            part = change.narrow(axis, start, size - 1)
            torch.maximum(part, step, out=part)
    return float(losses.max()), float((losses + change).max())
