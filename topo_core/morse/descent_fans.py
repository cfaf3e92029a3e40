"""The fan of descents around a critical point of index 2, and the disc that they sweep out.

Two neighbours of a fan that end in one minimum, or that part at a known pass, bound a strip of the disc. The
disc is known once there is a strip between all neighbours. How fans are grown: ``descending_discs``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.morse.descent_curves import DescentCurve, strip_heights
from topo_core.morse.index_two_points import IndexTwoPoint
from topo_core.morse.passes import Pass
from topo_core.objectives.protocol import Objective

_FIRST = 24  # descents of a fan at the beginning
_TURN = 0.1234  # angle of the first, in gaps: along an axis of symmetry it would end at a pass
_PARTS = (0.11, 0.24, 0.36, 0.49, 0.63, 0.76, 0.89)  # of a rung: starts of further descents
_MOST = 600  # descents of a fan, at most
_FEW = 3  # least number of descents that end in known minima
_CIRCLE = 0.05  # largest radius of the circle of starts, in sizes of the set of minima
_RADII = 40  # points on a ray from the point to the circle, and half as many smaller circles to try
_WIDER = 1.25  # ratio of a radius to the one before
_APART = 0.02  # distance at which two descents have parted, in sizes of the set of minima
_CANDIDATES = 4  # passes that are tried between two descents
_ALLOWED = 1e-5  # largest error of sampling, relative to the depth of a disc


@dataclass(frozen=True)
class DescendingDisc:
    """A disc swept out by descents.

    Attributes:
        top: the critical point it descends from, its highest point.
        boundary: the passes that an odd number of its sides lead over.
        value: the highest loss that was evaluated on it.
        bracket: by how much slopes between the samples could still raise it.
    """

    top: IndexTwoPoint
    boundary: frozenset[int]
    value: float
    bracket: float


@dataclass(frozen=True)
class DivergingDescents:
    """A point where two neighbours of a fan part without a known pass between them.

    Attributes:
        point: [d], between the two descents.
        direction: [d], from one to the other.
    """

    point: Tensor
    direction: Tensor


@dataclass(frozen=True)
class _Strip:
    """The part of a disc between two neighbours of a fan.

    Attributes:
        highest: the highest loss on it.
        reach: a bound on the loss between its samples.
        over: the pass between the neighbours; None where they end in one minimum.
    """

    highest: float
    reach: float
    over: int | None


@dataclass(frozen=True)
class _RequestedDescent:
    """A descent to be computed.

    Attributes:
        lead: [k, d], polygon from the critical point to the start of the descent.
        after: its neighbour; None for the first of a fan.
    """

    lead: Tensor
    after: DescentCurve | None


class DescentFan:
    """The descents around one critical point.

    Args:
        objective: the loss, with exact gradients.
        top: the critical point of index 2.
        passes: all known passes.
        sides: the descents on both sides of each pass.
        size: extent of the set of minima, the length scale.

    Attributes:
        wanted: descents to be computed and given to ``add``; empty when the fan is done.
    """

    def __init__(
        self,
        objective: Objective,
        top: IndexTwoPoint,
        passes: Sequence[Pass],
        sides: Sequence[tuple[DescentCurve, DescentCurve]],
        size: float,
    ) -> None:
        self.objective, self.top, self.passes, self.sides = objective, top, passes, sides
        self.apart = _APART * size
        self.curves: list[DescentCurve] = []  # in order around the point
        self.strips: dict[tuple[DescentCurve, DescentCurve], _Strip | None] = {}
        self.angles = [2 * math.pi * (k + _TURN) / _FIRST for k in range(_FIRST)]
        self.radii = self._widest(size)
        self.wanted = [_RequestedDescent(self.ray(angle), None) for angle in self.angles]
        self.started = 0

    def ray(self, angle: float) -> Tensor:
        """[k, d], from the point to the circle, in the plane of its negative curvatures."""
        first, second = self.top.plane
        direction = math.cos(angle) * first + math.sin(angle) * second
        points: Tensor = self.top.point + self.radii.to(direction)[:, None] * direction
        return points

    def _widest(self, size: float) -> Tensor:
        """Radii from 0 to that of a circle inside which the loss falls on every ray.

        The widest is best: descents from a small circle all turn to the steeper direction.
        """
        growing = _WIDER ** torch.arange(-1.5 * _RADII, 1, dtype=torch.float64)
        self.radii = _CIRCLE * size * growing
        rays = torch.stack([self.ray(angle) for angle in self.angles])
        losses = self.objective.losses(rays.flatten(0, 1)).reshape(rays.shape[:2])
        falls = (losses.diff(dim=1) < 0).all(0)[-_RADII // 2 :]
        rises = torch.nonzero(~falls).flatten().tolist()
        last = len(growing) - (len(falls) - rises[0] if rises else 0)
        return torch.cat([torch.zeros(1, dtype=torch.float64), self.radii[last - _RADII : last]])

    def add(self, found: list[DescentCurve]) -> None:
        """Keep those of the ``found`` descents that end in known minima."""
        self.started += len(found)
        after: dict[DescentCurve | None, list[DescentCurve]] = {}
        for want, curve in zip(self.wanted, found, strict=True):
            if curve.end is not None:
                after.setdefault(want.after, []).append(curve)
        order = after.get(None, [])
        for curve in self.curves:
            order += [curve, *after.get(curve, [])]
        self.curves = order

    def _pairs(self) -> list[tuple[DescentCurve, DescentCurve]]:
        return list(zip(self.curves, [*self.curves[1:], *self.curves[:1]], strict=True))

    def decide(self) -> None:
        """Compare new neighbours, and choose further descents between those that part.

        These start on the rung where the neighbours come apart, however late: no start on the circle is close
        enough to the descent that ends at a pass beyond a long ridge.
        """
        if not self.wanted:
            return
        self.wanted = []
        for pair in self._pairs():
            if pair not in self.strips:
                self.strips[pair] = self._between(*pair)
            rung = None if self.strips[pair] is not None else self._rung(*pair)
            if rung is not None and self.started + len(self.wanted) < _MOST:
                level, first, second = rung
                before = pair[0].points[pair[0].levels > level]
                for part in _PARTS:
                    start = first + part * (second - first)
                    self.wanted.append(_RequestedDescent(torch.cat([before, start[None]]), pair[0]))

    def _rung(self, one: DescentCurve, other: DescentCurve) -> tuple[Tensor, Tensor, Tensor] | None:
        """Where two descents come apart: the level, and the point [d] on each."""
        levels = torch.cat([one.levels, other.levels]).sort(descending=True).values
        first, second = one.at(levels), other.at(levels)
        wide = torch.linalg.vector_norm(second - first, dim=1) > self.apart
        row = int(wide.to(torch.int64).argmax())
        return (levels[row], first[row], second[row]) if wide[row] else None

    def _between(self, one: DescentCurve, other: DescentCurve) -> _Strip | None:
        assert one.end is not None and other.end is not None  # no others are kept
        if one.end == other.end:
            strip = self._joined([(one, other)], None)
            if strip is not None:
                return strip
        ends = tuple(sorted((one.end, other.end)))
        near = [
            (float(torch.cdist(passed.saddle[None], one.points).min()), number)
            for number, passed in enumerate(self.passes)
            if passed.ends == ends and passed.height <= self.top.loss
        ]
        for _, number in sorted(near)[:_CANDIDATES]:
            first, second = self.sides[number]
            for left, right in ((first, second), (second, first)):
                if left.end == one.end and right.end == other.end:
                    strip = self._over(one, other, left, right, number)
                    if strip is not None:
                        return strip
        return None

    def _over(
        self,
        one: DescentCurve,
        other: DescentCurve,
        left: DescentCurve,
        right: DescentCurve,
        number: int,
    ) -> _Strip | None:
        """The strips between two descents that part at a pass, and the descents from that pass."""
        saddle, level = left.points[0], torch.minimum(left.levels[0], right.levels[0])
        upper = one.above(level, saddle), other.above(level, saddle)
        lower = [(one.below(level), left), (other.below(level), right)]
        return self._joined([upper, *lower], number)

    def _joined(
        self, pairs: list[tuple[DescentCurve, DescentCurve]], over: int | None
    ) -> _Strip | None:
        """The strips as one; None where a loss on them may be above that of the point."""
        highest = reach = -math.inf
        for one, other in pairs:
            top, more = strip_heights(self.objective, one, other)
            highest, reach = max(highest, top), max(reach, more)
        depth = self.top.loss - min(float(curve.levels[-1]) for pair in pairs for curve in pair)
        if not reach <= self.top.loss + _ALLOWED * depth:
            return None
        return _Strip(highest, reach, over)

    def diverging(self) -> list[DivergingDescents]:
        """Where neighbours without a strip between them come apart."""
        open_ = [pair for pair in self._pairs() if self.strips.get(pair) is None]
        rungs = [self._rung(*pair) for pair in open_]
        return [
            DivergingDescents(0.5 * (one + two), two - one) for _, one, two in filter(None, rungs)
        ]

    def disc(self) -> DescendingDisc | None:
        """The disc, if there is a strip between all neighbours; else None."""
        if len(self.curves) < _FEW:
            return None
        strips = [self.strips.get(pair) for pair in self._pairs()]
        sure = [strip for strip in strips if strip is not None]
        if len(sure) < len(strips):
            return None
        boundary: set[int] = set()
        for strip in sure:
            if strip.over is not None:
                boundary ^= {strip.over}
        value = max(self.top.loss, *(strip.highest for strip in sure))
        reach = max(strip.reach for strip in sure)
        return DescendingDisc(self.top, frozenset(boundary), value, max(0.0, reach - value))
