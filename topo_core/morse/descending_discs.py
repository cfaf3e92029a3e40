"""The disc that descends from a critical point of index 2, and the loop of passes round it.

Steepest descents from a small circle round the point sweep out a disc that is nowhere higher than the
point (its unstable manifold). Most of them end in minima; where neighbours part, a pass lies between,
and the ways down from it bound the disc. So the boundary can be read off a fan of descents:

- neighbours that end in one minimum, with nothing between them higher than the point, bound a strip
  of the disc;
- neighbours that part bound two strips with the ways down from a pass between them, when nothing on
  these is higher than the point;
- between other neighbours further descents are started. Where they still part at the end, a pass
  is missing: the place is handed back, to look for it there.

What lies between two curves is evaluated on rungs that join places of one loss. A disc whose
boundary could be read is attained: a loop is filled by it at the loss of the point. No part of that
says that no lower disc exists.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.morse.index_two_points import Top, largest_curvature
from topo_core.morse.path_subdivision import Pass
from topo_core.objectives.protocol import Objective, Step
from topo_core.paths.polyline import resample
from topo_core.paths.starts.minimax_search import settled

_STEP = Step(0, 0, 0)  # gradients are exact: it names no batch
_FIRST = 24  # descents of a fan, at first
_TURN = 0.1234  # of the first: descents along an axis of symmetry would end at passes
_PARTS = (0.11, 0.24, 0.36, 0.49, 0.63, 0.76, 0.89)  # of a rung: starts of further descents
_ROUNDS = 40  # of further descents
_MOST = 600  # descents of a fan
_FEW = 3  # that end in known minima: with fewer there is no disc
_CIRCLE = 0.05  # radius of the circle the descents start from, in sizes, at most
_RADII = 40  # places on a ray from the point to the circle, and half as many smaller circles to try
_WIDER = 1.25  # of one to the next
_LONGEST = 0.02  # step of a descent, in sizes
_GROWTH = 0.3  # and in distances from the point
_STEPS = 3000
_STIFF = 0.5  # of the inverse of the largest curvature: the rate of a descent
_REST = 1e-6  # of the steepest slope on the way: a descent with less is at rest
_LOOK = 25  # steps between looks at whether all have arrived
_CAUGHT = 0.5  # of the longest step: this close to a minimum a descent has arrived
_SAME = 1e-3  # places closer than this fraction of the size are one
_APART = 0.02  # of the size: descents that are further from each other have parted
_HALF = 61  # places on a way down from a pass
_RUNG = 5  # samples on a rung
_CANDIDATES = 4  # passes that are tried between two descents
_ALLOWED = 1e-5  # of the depth of a disc: what samples may leave open
_ROWS = 1 << 24  # numbers in the recorded places of one batch


@dataclass(frozen=True)
class DescendingDisc:
    """A disc swept out by descents.

    Attributes:
        top: the critical point it descends from, its highest place.
        boundary: the passes that an odd number of its sides lead over.
        value: the highest loss that was evaluated on it.
        bracket: by how much slopes between the samples could still raise it.
    """

    top: Top
    boundary: frozenset[int]
    value: float
    bracket: float


@dataclass(frozen=True)
class Parting:
    """A place where neighbours of a fan part and no known pass lies between them.

    Attributes:
        place: [d], between the two.
        way: [d], from one to the other.
    """

    place: Tensor
    way: Tensor


def descending_discs(
    objective: Objective,
    tops: Sequence[Top],
    minima: Tensor,
    passes: Sequence[Pass],
    *,
    size: float,
) -> tuple[list[DescendingDisc], list[Parting]]:
    """The discs below those of ``tops`` whose boundary could be read, and where others part.

    Args:
        objective: the loss, with exact gradients.
        tops: critical points of index 2.
        minima: [n, d], all that are known.
        passes: between them, all that are known.
        size: of the set of minima: the length scale.
    """
    sides = [_sides(objective, one) for one in passes]
    saddles = [one.saddle for one in passes] + [top.point for top in tops]
    places = torch.cat([minima, *(place[None] for place in saddles)])
    time = _STIFF / largest_curvature(objective, places)
    fans = [_Fan(objective, top, passes, sides, size) for top in tops]
    for _ in range(_ROUNDS):
        wanted = [(fan, want) for fan in fans for want in fan.wanted]
        if not wanted:
            break
        ways = [want.way for _, want in wanted]
        centres = torch.stack([fan.top.point for fan, _ in wanted])
        curves = _descents(objective, ways, centres, minima, size, time)
        for fan in fans:
            fan.add(
                [curve for (owner, _), curve in zip(wanted, curves, strict=True) if owner is fan]
            )
            fan.decide()
    discs, partings = [], []
    for fan in fans:
        disc = fan.disc()
        if disc is None:
            partings += fan.partings()
        else:
            discs.append(disc)
    return discs, partings


@dataclass(frozen=True, eq=False)
class _Curve:
    """A descent as a polygon.

    Attributes:
        places: [k, d].
        levels: [k], decreasing: the lowest loss so far, told apart where equal.
        end: the minimum in its last place; None for one that is not known.
    """

    places: Tensor
    levels: Tensor
    end: int | None

    @classmethod
    def of(cls, places: Tensor, losses: Tensor, end: int | None) -> "_Curve":
        apart = 1e-13 * max(1e-300, float(losses.max() - losses.min()))
        ranks = torch.arange(len(losses), dtype=losses.dtype, device=losses.device)
        return cls(places, losses.cummin(0).values - apart * ranks, end)

    def at(self, levels: Tensor) -> Tensor:
        """The places [k, d] at ``levels`` [k]; the ends where these are outside."""
        if len(self.levels) == 1:
            return self.places.expand(len(levels), -1)
        right = torch.searchsorted(-self.levels, -levels).clamp(1, len(self.levels) - 1)
        high, low = self.levels[right - 1], self.levels[right]
        part = ((high - levels) / (high - low)).clamp(0, 1).to(self.places)[:, None]
        return (1 - part) * self.places[right - 1] + part * self.places[right]

    def above(self, level: Tensor, last: Tensor) -> "_Curve":
        """The part above ``level``, then the place at it, then the place ``last`` [d]."""
        kept = self.levels > level
        places = torch.cat([self.places[kept], self.at(level[None]), last[None]])
        below = level - 1e-12 * (self.levels[0] - self.levels[-1]).abs()
        return _Curve(places, torch.cat([self.levels[kept], level[None], below[None]]), None)

    def below(self, level: Tensor) -> "_Curve":
        """The part below ``level``, from the place at it on."""
        kept = self.levels < level
        places = torch.cat([self.at(level[None]), self.places[kept]])
        return _Curve(places, torch.cat([level[None], self.levels[kept]]), self.end)


@dataclass(frozen=True)
class _Strip:
    """What closes the gap between two neighbours of a fan: the highest loss, how much higher it
    may be by the slopes, and the pass between them if there is one."""

    highest: float
    reach: float
    over: int | None


@dataclass(frozen=True)
class _Want:
    """A descent that is wanted.

    Attributes:
        way: [k, d], to its start, from the critical point on.
        after: its neighbour; None for the first of a fan.
    """

    way: Tensor
    after: _Curve | None


class _Fan:
    """The descents around one critical point."""

    def __init__(
        self,
        objective: Objective,
        top: Top,
        passes: Sequence[Pass],
        sides: Sequence[tuple[_Curve, _Curve]],
        size: float,
    ) -> None:
        self.objective, self.top, self.passes, self.sides = objective, top, passes, sides
        self.apart = _APART * size
        self.curves: list[_Curve] = []  # in order round the point
        self.strips: dict[tuple[_Curve, _Curve], _Strip | None] = {}
        self.angles = [2 * math.pi * (k + _TURN) / _FIRST for k in range(_FIRST)]
        self.radii = self._widest(size)
        self.wanted = [_Want(self.ray(angle), None) for angle in self.angles]
        self.started = 0

    def ray(self, angle: float) -> Tensor:
        """[k, d], from the point to the circle, in the plane of its negative curvatures."""
        first, second = self.top.plane
        way = math.cos(angle) * first + math.sin(angle) * second
        places: Tensor = self.top.point + self.radii.to(way)[:, None] * way
        return places

    def _widest(self, size: float) -> Tensor:
        """Radii from 0 to that of a circle inside which the loss falls on every ray.

        A wide circle is worth it: descents from a small one all turn to the steeper direction.
        """
        growing = _WIDER ** torch.arange(-1.5 * _RADII, 1, dtype=torch.float64)
        self.radii = _CIRCLE * size * growing
        rays = torch.stack([self.ray(angle) for angle in self.angles])
        losses = self.objective.losses(rays.flatten(0, 1)).reshape(rays.shape[:2])
        falls = (losses.diff(dim=1) < 0).all(0)[-_RADII // 2 :]
        rises = torch.nonzero(~falls).flatten().tolist()
        last = len(growing) - (len(falls) - rises[0] if rises else 0)
        return torch.cat([torch.zeros(1, dtype=torch.float64), self.radii[last - _RADII : last]])

    def add(self, found: list[_Curve]) -> None:
        """Keep descents, except those that end in no known minimum: at a pass, or elsewhere."""
        self.started += len(found)
        after: dict[_Curve | None, list[_Curve]] = {}
        for want, curve in zip(self.wanted, found, strict=True):
            if curve.end is not None:
                after.setdefault(want.after, []).append(curve)
        order = after.get(None, [])
        for curve in self.curves:
            order += [curve, *after.get(curve, [])]
        self.curves = order

    def _pairs(self) -> list[tuple[_Curve, _Curve]]:
        return list(zip(self.curves, [*self.curves[1:], *self.curves[:1]], strict=True))

    def decide(self) -> None:
        """Look at neighbours that are new, and say between which further descents are wanted.

        These start on the rung where the neighbours come apart, however late: from the point itself
        no start is close enough to the way to a pass at the end of a long ridge.
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
                before = pair[0].places[pair[0].levels > level]
                for part in _PARTS:
                    start = first + part * (second - first)
                    self.wanted.append(_Want(torch.cat([before, start[None]]), pair[0]))

    def _rung(self, one: _Curve, other: _Curve) -> tuple[Tensor, Tensor, Tensor] | None:
        """Where two descents come apart: the level, and the places [d] on both."""
        levels = torch.cat([one.levels, other.levels]).sort(descending=True).values
        first, second = one.at(levels), other.at(levels)
        wide = torch.linalg.vector_norm(second - first, dim=1) > self.apart
        row = int(wide.to(torch.int64).argmax())
        return (levels[row], first[row], second[row]) if wide[row] else None

    def _between(self, one: _Curve, other: _Curve) -> _Strip | None:
        assert one.end is not None and other.end is not None  # no others are kept
        if one.end == other.end:
            strip = self._joined([(one, other)], None)
            if strip is not None:
                return strip
        ends = tuple(sorted((one.end, other.end)))
        near = [
            (float(torch.cdist(passed.saddle[None], one.places).min()), number)
            for number, passed in enumerate(self.passes)
            if passed.ends == ends and passed.height <= self.top.loss
        ]
        for _, number in sorted(near)[:_CANDIDATES]:
            first, second = self.sides[number]
            ways = [(first, second), (second, first)]
            for left, right in ways:
                if left.end == one.end and right.end == other.end:
                    strip = self._over(one, other, left, right, number)
                    if strip is not None:
                        return strip
        return None

    def _over(
        self, one: _Curve, other: _Curve, left: _Curve, right: _Curve, number: int
    ) -> _Strip | None:
        """The strips between two descents that part at a pass, and the ways down from it."""
        saddle, level = left.places[0], torch.minimum(left.levels[0], right.levels[0])
        upper = one.above(level, saddle), other.above(level, saddle)
        lower = [(one.below(level), left), (other.below(level), right)]
        return self._joined([upper, *lower], number)

    def _joined(self, pairs: list[tuple[_Curve, _Curve]], over: int | None) -> _Strip | None:
        """The strips as one, where nothing on them can be higher than the point."""
        highest = reach = -math.inf
        for one, other in pairs:
            top, more = _rungs(self.objective, one, other)
            highest, reach = max(highest, top), max(reach, more)
        depth = self.top.loss - min(float(curve.levels[-1]) for pair in pairs for curve in pair)
        if not reach <= self.top.loss + _ALLOWED * depth:
            return None
        return _Strip(highest, reach, over)

    def partings(self) -> list[Parting]:
        """Where neighbours that are not decided come apart."""
        open_ = [pair for pair in self._pairs() if self.strips.get(pair) is None]
        rungs = [self._rung(*pair) for pair in open_]
        return [Parting(0.5 * (one + two), two - one) for _, one, two in filter(None, rungs)]

    def disc(self) -> DescendingDisc | None:
        """The disc, if all around is decided."""
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


def _rungs(objective: Objective, one: _Curve, other: _Curve) -> tuple[float, float]:
    """The highest loss between two curves, and how high it may be by its changes."""
    levels = torch.cat([one.levels, other.levels]).sort(descending=True).values
    first, second = one.at(levels), other.at(levels)
    parts = torch.linspace(0, 1, _RUNG, dtype=first.dtype, device=first.device)[:, None]
    places = first[:, None] + parts * (second - first)[:, None]
    losses = objective.losses(places.flatten(0, 1)).reshape(len(levels), _RUNG)
    change = torch.zeros_like(losses)
    for axis in (0, 1):
        size = losses.shape[axis]
        step = losses.diff(dim=axis).abs()
        for start in (0, 1):
            part = change.narrow(axis, start, size - 1)
            torch.maximum(part, step, out=part)
    return float(losses.max()), float((losses + change).max())


def _sides(objective: Objective, one: Pass) -> tuple[_Curve, _Curve]:
    """The two ways down from a pass."""
    ways = one.path[: one.top + 1].flip(0), one.path[one.top :]
    curves = []
    for way, end in zip(ways, one.ends, strict=True):
        places = resample(way, _HALF)
        curves.append(_Curve.of(places, objective.losses(places), end))
    return curves[0], curves[1]


def _descents(
    objective: Objective,
    ways: Sequence[Tensor],
    centres: Tensor,
    minima: Tensor,
    size: float,
    time: float,
) -> list[_Curve]:
    """Descents from the ends of ``ways`` [r, d], which come first, away from ``centres`` [k, d]."""
    each = max(1, _ROWS // (_STEPS * minima.shape[1]))
    found = []
    for first in range(0, len(ways), each):
        part = ways[first : first + each]
        starts = torch.stack([way[-1] for way in part])
        trails, floors = _trails(
            objective, starts, centres[first : first + each], minima, _LONGEST * size, time
        )
        apart = torch.cdist(floors, minima).min(1)
        for ray, trail, near, index in zip(
            part, trails, apart.values.tolist(), apart.indices.tolist(), strict=True
        ):
            end = index if near <= _SAME * size else None
            floor = trail[-1:] if end is None else minima[end][None]
            gap = math.ceil(float((floor - trail[-1]).norm()) / (_LONGEST * size))
            parts = torch.linspace(0, 1, gap + 1, dtype=trail.dtype, device=trail.device)[1:, None]
            places = torch.cat([ray[:-1], trail, trail[-1] + parts * (floor - trail[-1])])
            found.append(_Curve.of(places, objective.losses(places), end))
    return found


def _trails(
    objective: Objective,
    starts: Tensor,
    centres: Tensor,
    minima: Tensor,
    longest: float,
    time: float,
) -> tuple[list[Tensor], Tensor]:
    """Places on the way down from ``starts`` [k, d], and the minima [k, d] below.

    Steps are short enough for the steepest walls, and a place depends continuously on the start:
    a rule that accepts steps or not would part neighbours where nothing lies between them.
    """
    places, near = starts.clone(), _CAUGHT * longest
    trail, gone = [places], [torch.zeros(len(places), dtype=torch.float64)]
    steepest = torch.zeros(len(places), dtype=places.dtype, device=places.device)
    for step in range(1, _STEPS + 1):
        _, gradients = objective.gradients(places, _STEP)
        size = torch.linalg.vector_norm(gradients, dim=1, keepdim=True).clamp_min(1e-300)
        away = torch.linalg.vector_norm(places - centres, dim=1, keepdim=True)
        bound = (_GROWTH * away).clamp_max(longest)
        rate = (bound / size).clamp_max(time)
        places = places - rate * gradients
        trail.append(places)
        gone.append(gone[-1] + (rate * size / bound)[:, 0].double().cpu())
        steepest = torch.maximum(steepest, size[:, 0])
        if step % _LOOK == 0:
            still = size[:, 0] <= _REST * steepest
            if bool((still | (torch.cdist(places, minima).amin(1) <= near)).all()):
                break
    floors = settled(objective, places, near)
    # Two places a step: those that lie closer say nothing new.
    marks = torch.stack(gone, dim=1).mul(2).floor()
    new = torch.cat([torch.ones_like(marks[:, :1]), marks.diff(dim=1)], dim=1) > 0
    whole = torch.stack(trail, dim=1)
    return [rows[mark.to(rows.device)] for rows, mark in zip(whole, new, strict=True)], floors
