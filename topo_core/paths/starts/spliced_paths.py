"""Leads a path over saddles that were found near its peaks.

The descents from a saddle may be long, or end at minima other than the ends of the path. A path can still
use the saddle: it leaves its own points before its peak, goes up one descent to the saddle and down the
other one, and returns to its own points. It is lower if its highest point is then the saddle.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective
from topo_core.paths.polyline import merge_coincident
from topo_core.paths.profiles import Profile, loss_profile
from topo_core.paths.settings import PathSettings

_LEAVES = 8  # points of a descent at which a path may join it
# largest number of points of a descent in the path; its dense maximum is measured afterwards
_KEPT = 16
_INSIDE = 4  # points on a joining segment whose losses are compared


@dataclass(frozen=True)
class SaddleTrails:
    """A saddle of index 1 and its descents, as parameters of the objective.

    Attributes:
        point: [d], the saddle.
        loss: loss at the saddle.
        sides: two polylines [m, d] that descend from the saddle.
        lowest: losses at the ends of the two polylines.
    """

    point: Tensor
    loss: float
    sides: tuple[Tensor, Tensor]
    lowest: tuple[float, float]


@dataclass(frozen=True)
class SplicedPath:
    """A path over saddles.

    Attributes:
        points: [n, d].
        profile: the losses along it.
        top: the saddle over which the path was led last; None if no saddle made it lower.
    """

    points: Tensor
    profile: Profile
    top: SaddleTrails | None


def spliced(
    objective: Objective,
    points: Tensor,
    profile: Profile,
    saddles: Sequence[SaddleTrails],
    settings: PathSettings,
) -> SplicedPath:
    """The path ``points`` [n, d] led over those of ``saddles`` that make it lower, one after the other.

    Each round replaces the part around the highest point, by the saddle that gives the lowest path. Each
    saddle is used at most once.
    """
    top: SaddleTrails | None = None
    left = list(saddles)
    while left:
        tried = list[tuple[float, int, Tensor, Profile]]()
        for number, saddle in enumerate(left):
            if saddle.loss < profile.maximum:
                path, _ = merge_coincident(_over(objective, points, saddle))
                seen = loss_profile(
                    objective, path, heights=settings.heights, tolerance=settings.height_tolerance
                )
                tried.append((seen.maximum, number, path, seen))
        if not tried:
            break
        height, number, path, seen = min(tried, key=lambda trial: trial[:2])
        if not height < profile.maximum:
            break
        points, profile, top = path, seen, left.pop(number)
    return SplicedPath(points, profile, top)


def _over(objective: Objective, points: Tensor, saddle: SaddleTrails) -> Tensor:
    """The path that leaves ``points`` [n, d] on both sides of the highest point for the descents of a
    saddle."""
    losses = objective.losses(points)
    peak = int(losses.argmax())
    before, after = points[: peak + 1], points[peak:].flip(0)
    rise, fall = losses[: peak + 1], losses[peak:].flip(0)
    best: tuple[float, Tensor] | None = None
    for first, second in (saddle.sides, saddle.sides[::-1]):
        up, high = _joined(objective, before, rise, first)
        down, higher = _joined(objective, after, fall, second)
        height = max(high, higher)
        if best is None or height < best[0]:
            best = height, torch.cat([up, down.flip(0)[1:]])
    assert best is not None
    return best[1]


@dataclass(frozen=True)
class Link:
    """Where a path leaves its own points for a descent from a saddle.

    Attributes:
        leave: index of the last point of the path before the link.
        meet: index of the point of the descent at which the link ends.
        height: highest sampled loss from the end of the path to that point.
    """

    leave: int
    meet: int
    height: float


def lowest_link(objective: Objective, points: Tensor, losses: Tensor, side: Tensor) -> Link:
    """The lowest link, a straight segment, from ``points`` to ``side``.

    Args:
        objective: the loss.
        points: [n, d], of a path from one of its ends to its peak.
        losses: [n], at the points.
        side: [m, d], a descent from a saddle.
    """
    leaves = torch.linspace(0, len(side) - 1, min(len(side), _LEAVES)).round().long()
    weights = torch.linspace(0, 1, _INSIDE + 2, dtype=points.dtype, device=points.device)
    weights = weights[1:-1, None]
    chords = side[leaves.to(side.device)][None, :] - points[:, None]
    inside = points[:, None, None] + weights * chords[:, :, None]
    between = objective.losses(inside.flatten(0, 2)).reshape(len(points), len(leaves), -1)
    so_far = losses.cummax(0).values
    heights = torch.maximum(between.amax(-1), so_far[:, None].to(between))
    row, column = divmod(int(heights.argmin()), len(leaves))
    return Link(row, int(leaves[column]), float(heights[row, column]))


def _joined(
    objective: Objective, points: Tensor, losses: Tensor, side: Tensor
) -> tuple[Tensor, float]:
    """The polyline from the first of ``points`` over the lowest link to ``side``, and up to the saddle.

    The arguments are those of ``lowest_link``. The second result is the height of the link.
    """
    link = lowest_link(objective, points, losses, side)
    kept = torch.linspace(0, link.meet, min(link.meet + 1, _KEPT)).round().long().to(side.device)
    return torch.cat([points[: link.leave + 1], side[kept].flip(0)]), link.height
