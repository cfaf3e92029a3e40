"""The loss along a polygon, and its maximum: the height of a path.

The highest loss at the points of a path is no bound for the losses between them, and neither is the highest
loss on a fixed grid. ``adaptive`` starts from an even grid on each segment. It then bisects around every peak
that may still hold the maximum, until no peak can change the maximum by more than the tolerance. Losses of
networks have kinks, so peaks are not modelled by smooth functions: a peak is not bisected further if the
slopes beside it cannot raise it above the maximum. ``paper`` is the grid of section 2.7, alpha in {.2, .4,
.6, .8}.
"""

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective, SegmentObjective
from topo_core.paths.height_rules import HEIGHTS, HeightRule
from topo_core.paths.polyline import arc_positions

T = TypeVar("T")

# peaks bisected in one round, those that may be highest; the others follow if they still matter
_PEAKS = 6
_ROUNDS = 16  # rounds of bisection; after them an interval is 4e-6 of a segment
_ROWS = 64  # points materialised at once, to bound memory
_ROUNDING = 64  # units of rounding by which two evaluation strategies may differ at one point
_EQUAL = 1e-5  # share of the range of losses; equal to the default `height_tolerance`


@dataclass(frozen=True)
class Profile:
    """Losses along a path.

    Attributes:
        positions: [m] float64, increasing from 0 to 1: fractions of the arc length.
        losses: [m] float64.
        bracket: by how much the true maximum may exceed the measured one, in units of loss, estimated from
            the slopes beside the peaks; infinite if the rule does not bisect.
        evaluations: number of points at which the loss was evaluated.
        dtype: dtype of the points, in which losses are computed before they are summed.
    """

    positions: Tensor
    losses: Tensor
    bracket: float
    evaluations: int
    dtype: torch.dtype

    @property
    def argmax(self) -> int:
        """Index of the maximum in ``positions``."""
        return int(self.losses.argmax())

    @property
    def maximum(self) -> float:
        """The height of the path: the highest measured loss, the two ends included."""
        return float(self.losses.max())

    def first_passage(self, *, from_end: bool = False) -> float:
        """The highest loss from the start of the path to the first sample that is lower than the start.

        By eq. (1) a path may end as soon as its loss is below that of its start, so this bound is at
        least as good as ``maximum``. With ``from_end`` the path is read backwards, from its last point.
        A sample that is lower by rounding alone does not count.
        """
        losses = self.losses.flip(0) if from_end else self.losses
        lower = torch.nonzero(self._below_first(losses))
        stop = int(lower[0]) if len(lower) else len(losses)
        return float(losses[:stop].max())

    @property
    def dips(self) -> tuple[bool, bool]:
        """Whether the loss falls below that of an end before it reaches the maximum: for the first and last
        end.

        If it does, that end was not a minimum. A difference of rounding does not count.
        """
        return self._dips(self.losses), self._dips(self.losses.flip(0))

    def _dips(self, losses: Tensor) -> bool:
        top = int(losses.argmax())
        return bool(self._below_first(losses[: top + 1]).any())

    def _below_first(self, losses: Tensor) -> Tensor:
        """[m], whether each of ``losses`` [m] is below the first of them by more than rounding."""
        return losses < losses[0] - _rounding(float(losses[0]), self.dtype)


def _rounding(loss: float, dtype: torch.dtype) -> float:
    """By how much two evaluations of a loss of this size may differ at one point."""
    return _ROUNDING * torch.finfo(dtype).eps * abs(loss)


def is_as_low_as(height: float, ends: Tensor, dtype: torch.dtype) -> bool:
    """Whether a path is no higher than its higher end; then no path between the ends is lower.

    Rounding and a small fraction of the range of losses are allowed for. The fraction is relative, so that
    the answer does not change under L → aL + b.

    Args:
        height: highest loss on the path.
        ends: [2], losses at its ends.
        dtype: dtype of the points, in which losses are computed before they are summed.
    """
    if not math.isfinite(height):
        return False
    high, low = float(ends.max()), float(ends.min())
    return height - high <= _rounding(high, dtype) + _EQUAL * (height - low)


def losses_on_segments(
    objective: Objective, starts: Tensor, ends: Tensor, alphas: Tensor
) -> Tensor:
    """Losses [s, m] at ``(1 - alphas) starts + alphas ends``; see ``SegmentObjective``."""
    if isinstance(objective, SegmentObjective):
        return objective.losses_on_segments(starts, ends, alphas)
    width = alphas.shape[1]
    losses = []
    for first in range(0, alphas.numel(), _ROWS):
        last = min(first + _ROWS, alphas.numel())
        chunk = torch.arange(first, last, device=starts.device)
        segment = chunk // width
        weight = alphas[segment, chunk % width].to(starts.dtype)[:, None]
        losses.append(objective.losses(torch.lerp(starts[segment], ends[segment], weight)))
    return torch.cat(losses).reshape(alphas.shape)


def loss_profile(
    objective: Objective,
    points: Tensor,
    *,
    heights: str = "adaptive",
    tolerance: float = 1e-5,
) -> Profile:
    """The losses along the polygon ``points`` [n, d].

    Args:
        objective: the loss.
        points: the path.
        heights: the rule, a name of ``height_rules``: ``adaptive``, or ``paper`` for the grid of section 2.7.
        tolerance: bisection stops when it cannot change the maximum by more than this
            fraction of the range of losses along the path.
    """
    (profile,) = loss_profiles(objective, [points], heights=heights, tolerance=tolerance)
    return profile


def loss_profiles(
    objective: Objective,
    paths: Sequence[Tensor],
    *,
    heights: str = "adaptive",
    tolerance: float = 1e-5,
) -> list[Profile]:
    """As ``loss_profile``, for several polygons [n, d], whose losses are evaluated in common calls.

    The results agree with those of ``loss_profile`` up to rounding, since an objective may sum in another
    order when a call has more rows.
    """
    asking = [_profile(points, HEIGHTS[heights], tolerance) for points in paths]
    profiles: dict[int, Profile] = {}
    waiting = {i: next(profile) for i, profile in enumerate(asking)}
    while waiting:
        answers = _answers(objective, waiting)
        waiting = {}
        for i, losses in answers.items():
            try:
                waiting[i] = asking[i].send(losses)
            except StopIteration as end:
                profiles[i] = end.value
    return [profiles[i] for i in range(len(paths))]


@dataclass(frozen=True)
class _Asked:
    """A request for losses: at points ``starts`` [k, d], or at ``alphas`` [s, m] on s segments.

    For segments, ``starts`` and ``ends`` are [s, d].
    """

    starts: Tensor
    ends: Tensor | None = None
    alphas: Tensor | None = None

    @property
    def width(self) -> int:
        """m, the number of samples on a segment; 0 for a request of points."""
        return 0 if self.alphas is None else self.alphas.shape[1]


_Asking = Generator[_Asked, Tensor, T]


def _answers(objective: Objective, asked: Mapping[int, _Asked]) -> dict[int, Tensor]:
    """The requested losses, by the number of the polygon; requests of equal width share one call."""
    answers: dict[int, Tensor] = {}
    for width in {each.width for each in asked.values()}:
        alike = {i: each for i, each in asked.items() if each.width == width}
        starts = _joined([each.starts for each in alike.values()])
        if width == 0:
            losses = objective.losses(starts)
        else:
            ends = _joined([each.ends for each in alike.values() if each.ends is not None])
            alphas = _joined([each.alphas for each in alike.values() if each.alphas is not None])
            losses = losses_on_segments(objective, starts, ends, alphas)
        parts = losses.split([len(each.starts) for each in alike.values()])
        answers |= dict(zip(alike, parts, strict=True))
    return answers


def _joined(rows: list[Tensor]) -> Tensor:
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def _profile(points: Tensor, rule: HeightRule, tolerance: float) -> _Asking[Profile]:
    """The profile of a polygon [n, d], as a generator that yields requests and receives losses."""
    nodes = arc_positions(points)
    alphas = torch.tensor(rule.alphas, dtype=torch.float64, device=points.device)
    grid = alphas.expand(len(points) - 1, -1)
    inside = yield _Asked(points[:-1], points[1:], grid)
    last = yield _Asked(points[-1:])
    losses = torch.cat([inside.flatten(), last])
    # A location is its segment plus alpha, so that zero-length segments keep their order.
    locations = torch.arange(len(points) - 1, dtype=torch.float64, device=points.device)
    locations = torch.cat(
        [(locations[:, None] + grid).flatten(), locations.new_tensor([len(points) - 1])]
    )
    bracket = math.inf  # nothing is known about the loss between the samples
    if rule.bisects:
        locations, losses, bracket = yield from _bisected(points, locations, losses, tolerance)
    segment = locations.floor().clamp(max=len(points) - 2).long()
    positions = torch.lerp(nodes[segment], nodes[segment + 1], locations - segment)
    return Profile(positions, losses, bracket, len(losses), points.dtype)


def _bisected(
    points: Tensor, locations: Tensor, losses: Tensor, tolerance: float
) -> _Asking[tuple[Tensor, Tensor, float]]:
    """``locations`` [m] and ``losses`` [m], extended around the peaks, and the remaining bracket."""
    bracket = math.inf
    for _ in range(_ROUNDS):
        if not bool(losses.isfinite().all()):
            return locations, losses, math.inf
        peaks, reach = _peaks(losses)
        bracket = float(reach.max() - losses.max())
        allowed = tolerance * float(losses.max() - losses.min())
        if bracket <= allowed:
            break
        highest = torch.argsort(reach, descending=True, stable=True)[:_PEAKS]
        peaks = peaks[highest][reach[highest] > losses.max() + allowed]
        if len(peaks) == 0:  # only rounding makes the bracket larger than allowed
            break
        beside = torch.unique(torch.cat([peaks - 1, peaks]))
        beside = beside[(beside >= 0) & (beside < len(locations) - 1)]
        middles = 0.5 * (locations[beside] + locations[beside + 1])
        segment = middles.floor().clamp(max=len(points) - 2).long()
        new = yield _Asked(points[segment], points[segment + 1], (middles - segment)[:, None])
        locations, order = torch.cat([locations, middles]).sort()
        losses = torch.cat([losses, new.flatten()])[order]
    return locations, losses, bracket


def _peaks(losses: Tensor) -> tuple[Tensor, Tensor]:
    """Indices [p] of the peaks of ``losses`` [m], and the highest loss [p] that is possible beside each."""
    edge = losses.new_full((1,), -torch.inf)
    left, right = torch.cat([edge, losses[:-1]]), torch.cat([losses[1:], edge])
    peaks = torch.nonzero((losses >= left) & (losses >= right)).flatten()
    return peaks, (losses + _fall(losses))[peaks]


def _fall(losses: Tensor) -> Tensor:
    """The fall [m] of the loss from each sample to its lower neighbour.

    It bounds the rise of the loss above a sample at a peak. If the loss has one kink beside the sample, it
    rises at most as far as the slope from the other side continues, which is this fall. A smooth function
    rises by about a quarter of it.
    """
    steps = losses.diff()
    zero = losses.new_zeros(1)
    return torch.maximum(torch.cat([zero, steps]), torch.cat([-steps, zero])).clamp_min(0)
