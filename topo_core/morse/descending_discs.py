"""The disc that descends from a critical point of index 2, and the loop of passes that bounds it.

Steepest descents from a small circle around the point sweep out a disc that is nowhere higher than the point
(its unstable manifold). Most of them end in minima. Where two neighbours end in different minima, a pass lies
between them, and the descents from that pass bound the disc. So a fan of descents determines the boundary:

- neighbours that end in one minimum, with no loss between them above that of the point, bound a strip of the
  disc;
- neighbours that part bound two strips with the descents from a pass between them, if no loss on the strips
  is above that of the point;
- between other neighbours further descents are started. Where they still part at the end, a pass is missing:
  the point between them is returned, so that a search can start there.

The strip between two curves is evaluated on segments (rungs) that join points of equal loss. A disc whose
boundary is known fills a loop at the loss of its critical point. That no lower disc exists is not shown.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from topo_core.morse.descent_curves import DescentCurve
from topo_core.morse.descent_fans import DescendingDisc, DescentFan, DivergingDescents
from topo_core.morse.index_two_points import IndexTwoPoint, largest_curvature
from topo_core.morse.passes import Pass
from topo_core.morse.steepest_descents import steepest_descents
from topo_core.objectives.protocol import Objective
from topo_core.paths.polyline import resample

_ROUNDS = 40  # of further descents, at most
_STIFF = 0.5  # rate of a descent, in inverses of the largest curvature
_HALF = 61  # points of a descent from a pass


def descending_discs(
    objective: Objective,
    tops: Sequence[IndexTwoPoint],
    minima: Tensor,
    passes: Sequence[Pass],
    *,
    size: float,
) -> tuple[list[DescendingDisc], list[DivergingDescents]]:
    """The discs below those of ``tops`` whose boundary is determined, and points where passes are missing.

    Args:
        objective: the loss, with exact gradients.
        tops: critical points of index 2.
        minima: [n, d], all known minima.
        passes: all known passes between them.
        size: extent of the set of minima, the length scale.
    """
    sides = [_sides(objective, one) for one in passes]
    saddles = [one.saddle for one in passes] + [top.point for top in tops]
    points = torch.cat([minima, *(point[None] for point in saddles)])
    time = _STIFF / largest_curvature(objective, points)
    fans = [DescentFan(objective, top, passes, sides, size) for top in tops]
    for _ in range(_ROUNDS):
        wanted = [(fan, want) for fan in fans for want in fan.wanted]
        if not wanted:
            break
        leads = [want.lead for _, want in wanted]
        centres = torch.stack([fan.top.point for fan, _ in wanted])
        curves = steepest_descents(objective, leads, centres, minima, size, time)
        for fan in fans:
            fan.add(
                [curve for (owner, _), curve in zip(wanted, curves, strict=True) if owner is fan]
            )
            fan.decide()
    discs, diverging = [], []
    for fan in fans:
        disc = fan.disc()
        if disc is None:
            diverging += fan.diverging()
        else:
            discs.append(disc)
    return discs, diverging


def _sides(objective: Objective, one: Pass) -> tuple[DescentCurve, DescentCurve]:
    """The descents on both sides of a pass."""
    halves = one.path[: one.top + 1].flip(0), one.path[one.top :]
    curves = []
    for half, end in zip(halves, one.ends, strict=True):
        points = resample(half, _HALF)
        curves.append(DescentCurve.of(points, objective.losses(points), end))
    return curves[0], curves[1]
