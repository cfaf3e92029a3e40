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

from topo_core.index_two import Top
from topo_core.objective import Objective, Step
from topo_core.path import resample
from topo_core.routes import settled
from topo_core.subdivide import Pass

_STEP = Step(0, 0, 0)  # gradients are exact: it names no batch
_FIRST = 24  # descents of a fan, at first
_TURN = 0.1234  # of the first: descents along an axis of symmetry would end at passes
_PARTS = (0.23, 0.51, 0.77)  # of the angle between two that are not decided: further descents
_ROUNDS = 14  # of further descents
_MOST = 400  # descents of a fan
_FEW = 3  # that end in known minima: with fewer there is no disc
_CIRCLE = 0.05  # radius of the circle the descents start from, in sizes, at most
_RADII = 40  # places on a ray from the point to the circle, and half as many smaller circles to try
_WIDER = 1.25  # of one to the next
_LONGEST = 0.02  # step of a descent, in sizes
_GROWTH = 0.3  # and in distances from the point
_STEPS = 500
_SHORTEST = 1e-4  # of the longest step: a descent with shorter ones has arrived
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
    fans = [_Fan(objective, top, passes, sides, size) for top in tops]
    for _ in range(_ROUNDS):
        wanted = [(fan, angle) for fan in fans for angle in fan.wanted]
        if not wanted:
            break
        rays = torch.stack([fan.ray(angle) for fan, angle in wanted])
        curves = _descents(objective, rays, minima, size)
        for (fan, angle), curve in zip(wanted, curves, strict=True):
            fan.add(angle, curve)
        for fan in fans:
            fan.decide()
    discs, partings = [], []
    for fan in fans:
        disc = fan.disc()
        if disc is None:
            partings += fan.partings(_APART * size)
        else:
            discs.append(disc)
    return discs, partings


@dataclass(frozen=True)
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
        self.curves: dict[float, _Curve] = {}
        self.wanted = [2 * math.pi * (k + _TURN) / _FIRST for k in range(_FIRST)]
        self.started = 0
        self.strips: dict[tuple[float, float], _Strip | None] = {}
        self.radii = self._widest(size)

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
        rays = torch.stack([self.ray(angle) for angle in self.wanted])
        losses = self.objective.losses(rays.flatten(0, 1)).reshape(rays.shape[:2])
        falls = (losses.diff(dim=1) < 0).all(0)[-_RADII // 2 :]
        rises = torch.nonzero(~falls).flatten().tolist()
        last = len(growing) - (len(falls) - rises[0] if rises else 0)
        return torch.cat([torch.zeros(1, dtype=torch.float64), self.radii[last - _RADII : last]])

    def add(self, angle: float, curve: _Curve) -> None:
        """Keep a descent, unless it ends in no known minimum: at a pass, or in a place not known."""
        self.started += 1
        if curve.end is not None:
            self.curves[angle] = curve

    def _pairs(self) -> list[tuple[float, float]]:
        angles = sorted(self.curves)
        return list(zip(angles, [*angles[1:], angles[0]], strict=True))

    def decide(self) -> None:
        """Look at neighbours that are new, and say between which further descents are wanted."""
        if not self.wanted:
            return
        self.wanted = []
        for one, other in self._pairs():
            if (one, other) not in self.strips:
                self.strips[one, other] = self._between(self.curves[one], self.curves[other])
            if self.strips[one, other] is None and self.started < _MOST:
                gap = (other - one) % (2 * math.pi) or 2 * math.pi
                new = [(one + part * gap) % (2 * math.pi) for part in _PARTS]
                if len({one, other, *new}) == len(_PARTS) + 2:
                    self.wanted += new

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

    def partings(self, apart: float) -> list[Parting]:
        """Where neighbours that are not decided come to be further than ``apart`` from each other."""
        found = []
        for pair in self._pairs() if len(self.curves) >= _FEW else []:
            if self.strips.get(pair) is None:
                one, other = self.curves[pair[0]], self.curves[pair[1]]
                levels = torch.cat([one.levels, other.levels]).sort(descending=True).values
                first, second = one.at(levels), other.at(levels)
                wide = torch.linalg.vector_norm(second - first, dim=1) > apart
                row = int(wide.to(torch.int64).argmax())
                if wide[row]:
                    found.append(
                        Parting(0.5 * (first[row] + second[row]), second[row] - first[row])
                    )
        return found

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


def _descents(objective: Objective, rays: Tensor, minima: Tensor, size: float) -> list[_Curve]:
    """Descents from the ends of ``rays`` [k, r, d], which come first."""
    each = max(1, _ROWS // (_STEPS * rays.shape[2]))
    found = []
    for part in rays.split(each):
        trails, floors = _trails(objective, part[:, -1], part[:, 0], _LONGEST * size)
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
    objective: Objective, starts: Tensor, centres: Tensor, longest: float
) -> tuple[list[Tensor], Tensor]:
    """Places on the way down from ``starts`` [k, d], and the minima [k, d] below."""
    places = starts.clone()
    losses, gradients = objective.gradients(places, _STEP)
    trail, kept = [places], [torch.ones(len(places), dtype=torch.bool, device=places.device)]
    sizes = torch.full_like(losses, longest)
    for _ in range(_STEPS):
        away = _GROWTH * torch.linalg.vector_norm(places - centres, dim=1).to(losses)
        sizes = torch.minimum(sizes, away).clamp_max(longest)
        length = torch.linalg.vector_norm(gradients, dim=1).clamp_min(1e-300)
        moved = places - (sizes.to(places) / length)[:, None] * gradients
        new, slopes = objective.gradients(moved, _STEP)
        lower = new < losses
        places = torch.where(lower[:, None], moved, places)
        losses = torch.where(lower, new, losses)
        gradients = torch.where(lower[:, None], slopes, gradients)
        # A step that goes up has crossed the floor of its valley.
        sizes = torch.where(lower, 1.2 * sizes, 0.5 * sizes)
        trail.append(places)
        kept.append(lower)
        if bool((sizes < _SHORTEST * longest).all()):
            break
    floors = settled(objective, places, longest)
    whole, marks = torch.stack(trail, dim=1), torch.stack(kept, dim=1)
    return [rows[mark] for rows, mark in zip(whole, marks, strict=True)], floors
