"""The loss along a polygon, and its maximum: the height of a path.

A height read off the points alone is no bound for the polygon between them, and neither is a
fixed grid. ``adaptive`` starts from an even grid on each segment and then bisects around
every peak that may still hold the maximum, until none can change it by more than the tolerance. Losses
of networks have kinks, so no smooth model of a peak is trusted: a peak is set aside when its
own slopes cannot carry it above the maximum. ``paper`` is the grid of section 2.7, alpha in {.2, .4, .6, .8}.
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

_PEAKS = 6  # highest peaks bisected in a round; the others are bisected later if they still matter
_ROUNDS = 16  # of bisection, after which an interval is 4e-6 of a segment
_ROWS = 64  # points materialised at once, to bound memory
_ROUNDING = 64  # units of rounding by which losses of one point by two strategies may differ
_EQUAL = 1e-5  # share of the range of losses; equal to the default `height_tolerance`


@dataclass(frozen=True)
class Profile:
    """Losses along a path.

    Attributes:
        positions: [m] float64, increasing from 0 to 1: fractions of the arc length.
        losses: [m] float64.
        bracket: by how much the maximum may be higher than measured, estimated from the slopes beside the
            peaks; infinite where the rule does not bisect.
        evaluations: points at which the loss was evaluated.
    """

    positions: Tensor
    losses: Tensor
    bracket: float
    evaluations: int

    @property
    def argmax(self) -> int:
        """Index of the maximum in ``positions``."""
        return int(self.losses.argmax())

    @property
    def maximum(self) -> float:
        """The height of the path; its ends count, so never below either of them."""
        return float(self.losses.max())

    def first_passage(self, *, from_end: bool = False) -> float:
        """The maximum up to the first point lower than the start of the path.

        By eq. (1) a path may end as soon as its loss is below that of its start, so this bound is at
        least as good as ``maximum``. ``from_end`` reads the path backwards.
        """
        losses = self.losses.flip(0) if from_end else self.losses
        lower = torch.nonzero(losses < losses[0])
        stop = int(lower[0]) if len(lower) else len(losses)
        return float(losses[:stop].max())

    @property
    def dips(self) -> tuple[bool, bool]:
        """Whether the climb from the first and from the last end first goes below that end.

        Where it does, that end was not a minimum.
        """
        return self._dips(self.losses), self._dips(self.losses.flip(0))

    def _dips(self, losses: Tensor) -> bool:
        top = int(losses.argmax())
        return bool((losses[: top + 1] < losses[0]).any())


def is_as_low_as(height: float, ends: Tensor, dtype: torch.dtype) -> bool:
    """Whether a path of this height is nowhere higher than at its higher end: then no path is lower.

    Up to rounding and to a small share of the range of losses, so that the answer does not change
    under L → aL + b.

    Args:
        height: of the path.
        ends: [2], losses of its ends.
        dtype: of the points, in which losses are computed before they are summed.
    """
    if not math.isfinite(height):
        return False
    high, low = float(ends.max()), float(ends.min())
    rounding = _ROUNDING * torch.finfo(dtype).eps * abs(high)
    return height - high <= rounding + _EQUAL * (height - low)


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
        heights: ``adaptive``, or ``paper`` for the grid of section 2.7.
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
    """As ``loss_profile`` for several polygons [n, d], with their evaluations joined in common calls.

    The results agree with ``loss_profile`` up to rounding: an objective may sum over more rows in another
    order.
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
    """Points whose losses are asked for: points [k, d], or ``alphas`` [s, m] of segments [s, d]."""

    starts: Tensor
    ends: Tensor | None = None
    alphas: Tensor | None = None

    @property
    def width(self) -> int:
        """m; 0 for points."""
        return 0 if self.alphas is None else self.alphas.shape[1]


_Asking = Generator[_Asked, Tensor, T]


def _answers(objective: Objective, asked: Mapping[int, _Asked]) -> dict[int, Tensor]:
    """The losses that each asked for; requests of equal width share a call."""
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
    """The profile of a polygon [n, d]; it asks for losses and is sent them."""
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
    bracket = math.inf  # nothing is known of the loss between the samples
    if rule.bisects:
        locations, losses, bracket = yield from _bisected(points, locations, losses, tolerance)
    segment = locations.floor().clamp(max=len(points) - 2).long()
    positions = torch.lerp(nodes[segment], nodes[segment + 1], locations - segment)
    return Profile(positions, losses, bracket, len(losses))


def _bisected(
    points: Tensor, locations: Tensor, losses: Tensor, tolerance: float
) -> _Asking[tuple[Tensor, Tensor, float]]:
    """``locations`` and ``losses`` with more locations around the peaks, and the bracket that is left."""
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
        if len(peaks) == 0:  # the bracket is above what is allowed by rounding alone
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
    """Indices of the peaks, and how high the loss may be beside each of them."""
    edge = losses.new_full((1,), -torch.inf)
    left, right = torch.cat([edge, losses[:-1]]), torch.cat([losses[1:], edge])
    peaks = torch.nonzero((losses >= left) & (losses >= right)).flatten()
    return peaks, (losses + _fall(losses))[peaks]


def _fall(losses: Tensor) -> Tensor:
    """How far the loss falls from each sample to its lower neighbour.

    A function with one kink beside a sample rises above it by no more than the slope on the
    other side carries it, which is this; a smooth one by about a quarter of it.
    """
    steps = losses.diff()
    zero = losses.new_zeros(1)
    return torch.maximum(torch.cat([zero, steps]), torch.cat([-steps, zero])).clamp_min(0)
