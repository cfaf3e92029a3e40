"""L-BFGS (Liu & Nocedal 1989): the quasi-Newton direction, of one point or of many, and a line search.

``minima`` polishes one point with the line search; ``monotone_descent`` moves many points, each within a
trust radius.

The line search asks for the approximate Wolfe conditions of Hager & Zhang (2005): far from a minimum
they are the strong Wolfe conditions; close to it, where differences of losses are rounding, slopes
alone decide. So the last digits of a gradient are reached whatever constant the loss has.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_DECREASE, _CURVATURE = 1e-4, 0.9  # of the Wolfe conditions (Nocedal & Wright 2006, section 3.1)
_SAFE = 1e-10  # cosine of a step and its change of gradient: a smaller one is rounding
_EXPANSION = 4.0  # of a step at most, so that a search does not leap into another valley
_TRIALS = 20  # of a line search
_INSIDE = 0.1  # of a bracket: new trials keep this distance from its ends

Evaluate = Callable[[Tensor], tuple[float, Tensor]]
"""Loss, and gradient [d], at a point [d]."""


def inverse_hessian_times(
    moves: Sequence[Tensor],
    changes: Sequence[Tensor],
    rows: Tensor,
    first: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The approximate inverse Hessians of k descents times ``rows`` [k, d]: the two loops of L-BFGS.

    Args:
        moves: steps [k, d], oldest first; a row of zeros is a step that is left out of its descent.
        changes: changes of the gradients [k, d] over them.
        rows: one vector for each descent.
        first: the initial inverse Hessians times [k, d]; None for the multiple of the identity that the last
            step suggests.
    """
    products = [torch.linalg.vecdot(s, y) for s, y in zip(moves, changes, strict=True)]
    weights = list[Tensor]()
    for s, y, sy in zip(reversed(moves), reversed(changes), reversed(products), strict=True):
        weights.append(torch.where(sy > 0, torch.linalg.vecdot(s, rows) / sy, 0.0))
        rows = rows - weights[-1][:, None] * y
    if first is not None:
        rows = first(rows)
    elif products:
        sy, yy = products[-1], torch.linalg.vecdot(changes[-1], changes[-1])
        rows = rows * torch.where(sy > 0, sy / yy, 1.0)[:, None]
    for s, y, sy, weight in zip(moves, changes, products, reversed(weights), strict=True):
        correction = weight - torch.where(sy > 0, torch.linalg.vecdot(y, rows) / sy, 0.0)
        rows = rows + correction[:, None] * s
    return rows


@dataclass(frozen=True)
class CurvaturePairs:
    """The last steps and changes of the gradient, from which L-BFGS approximates the Hessian.

    Attributes:
        moves: [m, d], steps, oldest first.
        changes: [m, d], of the gradient over each.
    """

    moves: Tensor
    changes: Tensor

    @classmethod
    def none(cls, point: Tensor) -> "CurvaturePairs":
        """No pairs, for points like ``point`` [d]."""
        return cls(point.new_zeros(0, len(point)), point.new_zeros(0, len(point)))

    def with_step(self, move: Tensor, change: Tensor, memory: int) -> "CurvaturePairs":
        """With one more pair, of at most ``memory``; one of no positive curvature is left out."""
        if not float(move @ change) > _SAFE * float(move.norm() * change.norm()):
            return self
        kept = slice(max(0, len(self.moves) + 1 - memory), None)
        return CurvaturePairs(
            torch.cat([self.moves, move[None]])[kept],
            torch.cat([self.changes, change[None]])[kept],
        )

    def inverse_times(self, vector: Tensor, first: float) -> Tensor:
        """The approximate inverse Hessian times ``vector`` [d]; ``first`` times ``vector`` without pairs."""
        if not len(self.moves):
            scaled: Tensor = first * vector
            return scaled
        moves, changes = self.moves[:, None].unbind(), self.changes[:, None].unbind()
        return inverse_hessian_times(moves, changes, vector[None])[0]


@dataclass(frozen=True)
class LineResult:
    """The end of a line search: point [d], loss and gradient [d]; and whether it is an improvement."""

    point: Tensor
    loss: float
    gradient: Tensor
    success: bool


@dataclass(frozen=True)
class _Trial:
    step: float
    loss: float
    slope: float
    point: Tensor
    gradient: Tensor


def line_search(
    evaluate: Evaluate,
    point: Tensor,
    loss: float,
    gradient: Tensor,
    direction: Tensor,
    *,
    first: float,
    rounding: float,
) -> LineResult:
    """A point along ``direction`` [d] that satisfies the approximate Wolfe conditions.

    Args:
        evaluate: the loss.
        point: [d], where the search starts.
        loss: there.
        gradient: [d], there.
        direction: [d], of descent.
        first: the first step, in lengths of ``direction``.
        rounding: by how much the loss may rise for rounding.
    """
    start = _Trial(0.0, loss, float(gradient @ direction), point, gradient)
    low, high = start, None
    step = first
    for _ in range(_TRIALS):
        there = point + step * direction
        value, slopes = evaluate(there)
        trial = _Trial(step, value, float(slopes @ direction), there, slopes)
        if not _is_lower(trial, start, rounding):
            high = trial
        elif abs(trial.slope) <= _CURVATURE * abs(start.slope):
            return LineResult(trial.point, trial.loss, trial.gradient, True)
        elif trial.slope < 0:
            low = trial
        else:
            high = trial
        step = _next_step(low, high)
        if not low.step < step < (high.step if high else math.inf):
            break  # the bracket has shrunk to rounding
    better = low.loss < loss or float(low.gradient.norm()) < float(gradient.norm())
    return LineResult(low.point, low.loss, low.gradient, low.step > 0 and better)


def _is_lower(trial: _Trial, start: _Trial, rounding: float) -> bool:
    if not (math.isfinite(trial.loss) and math.isfinite(trial.slope)):
        return False
    if trial.loss <= start.loss + _DECREASE * trial.step * start.slope:
        return True
    falls = trial.slope <= (2 * _DECREASE - 1) * start.slope
    return trial.loss <= start.loss + rounding and falls


def _next_step(low: _Trial, high: _Trial | None) -> float:
    """By the secant of the slopes, inside the bracket; outwards where there is none yet."""
    if high is None:
        return _EXPANSION * low.step
    width = high.step - low.step
    part = 0.5
    if math.isfinite(high.slope) and high.slope > 0:
        part = low.slope / (low.slope - high.slope)
    return low.step + min(max(part, _INSIDE), 1 - _INSIDE) * width
