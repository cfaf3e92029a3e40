"""How far the peak of a path can be lowered between its neighbours.

Along each line parallel to the path near its peak, the highest point is a peak as well. The lowest of these
peaks is searched among the lines within a distance of the path: the top of each line by secant steps
along it, and the lowest line by L-BFGS (Liu & Nocedal 1989) across. At the top of a line the derivative of
its height is the part of the gradient across the line, so each step is a descent, and the search can
neither climb a hill beside the path nor leave the neighbourhood. Where the gradient vanishes, the result is
a stationary point that is a maximum along the path and a minimum across it.
"""

from collections.abc import Callable

from torch import Tensor

Gradient = Callable[[Tensor], tuple[float, Tensor]]
"""Loss, and gradient [d], at a point [d]."""

_MEMORY = 10  # pairs of L-BFGS
_LONGEST = 0.25  # step across, in radii
_FIRST = 0.01  # the first of all, in radii
_UP = 0.25  # longest step along a line, in radii
_SECANTS = 4  # of one line
_LEVEL = 0.03  # a slope along the line this much smaller than the one across is at the top
_ARMIJO = 1e-4
_SHRINK = 0.3
_SHORTEST = 1e-4  # of a step, until which it is shrunk


def lowered_peak(
    gradient: Gradient, peak: Tensor, along: Tensor, *, radius: float, enough: float, steps: int
) -> Tensor:
    """The lowest top [d] of the lines parallel to ``along`` that pass within ``radius`` of ``peak``.

    Args:
        gradient: exact, of one point.
        peak: [d], the highest point of the path.
        along: [d], unit vector of the path there.
        radius: how far lines may be from the peak, and the tops on them from its level plane.
        enough: gradient norm below which the search stops.
        steps: at most, across.
    """
    line = _Line(gradient, peak, along, radius, enough)
    here = line.top(peak)
    memory: list[tuple[Tensor, Tensor]] = []
    for _ in range(steps):
        point, loss, across = here
        size = float(across.norm())
        if max(size, abs(line.slope)) <= 0.7 * enough or size == 0:
            break
        move = -_times_inverse(across, memory, _FIRST * radius / size)
        move *= min(1.0, _LONGEST * radius / max(float(move.norm()), 1e-300))
        away = line.across(point - peak)
        part = 1.0
        while True:
            step = part * move
            outside = float((away + step).norm()) > radius
            if outside:
                step = line.across(_onto(away, step, radius))
            there = line.top(point + step)
            if there[1] <= loss + _ARMIJO * float(across @ step):
                break
            part *= _SHRINK
            if part < _SHORTEST:
                return point
        moved, change = line.across(there[0] - point), there[2] - across
        if float(moved @ change) > 1e-10 * float(change @ change):
            memory = [*memory[1 - _MEMORY :], (moved, change)]
        here = there
        if outside:
            break
    return here[0]


class _Line:
    """The tops of lines in one direction; the last slope and curvature along them are kept."""

    def __init__(
        self, gradient: Gradient, peak: Tensor, along: Tensor, radius: float, enough: float
    ) -> None:
        self.gradient, self.peak, self.along = gradient, peak, along
        self.radius, self.enough = radius, enough
        self.slope, self.curvature = 0.0, 0.0

    def across(self, vector: Tensor) -> Tensor:
        return vector - (vector @ self.along) * self.along

    def top(self, point: Tensor) -> tuple[Tensor, float, Tensor]:
        """The top of the line through ``point``: the point, its loss, and the gradient across the line."""
        loss, gradient = self.gradient(point)
        slope, curvature = float(gradient @ self.along), self.curvature
        for _ in range(_SECANTS):
            level = max(0.3 * self.enough, _LEVEL * float(self.across(gradient).norm()))
            if abs(slope) <= level:
                break
            step = (
                -slope / curvature
                if curvature < 0
                else self.radius * _UP * (1 if slope > 0 else -1)
            )
            step = max(-_UP * self.radius, min(_UP * self.radius, step))
            position = float((point - self.peak) @ self.along)
            step = max(-self.radius, min(self.radius, position + step)) - position
            if step == 0:
                break
            tried = point + step * self.along
            loss_there, gradient_there = self.gradient(tried)
            slope_there = float(gradient_there @ self.along)
            curvature = (slope_there - slope) / step
            if loss_there < loss:
                # Over the top: back by the secant of the two slopes, which is concave.
                continue
            point, loss, gradient, slope = tried, loss_there, gradient_there, slope_there
        self.slope, self.curvature = slope, curvature
        return point, loss, self.across(gradient)


def _onto(away: Tensor, step: Tensor, radius: float) -> Tensor:
    """The part of ``step`` from ``away``, inside the ball, that ends on its surface."""
    a, b, c = float(step @ step), float(away @ step), float(away @ away) - radius**2
    part: float = (-b + max(b * b - a * c, 0.0) ** 0.5) / a
    return part * step


def _times_inverse(vector: Tensor, memory: list[tuple[Tensor, Tensor]], first: float) -> Tensor:
    """The inverse Hessian times ``vector``, as far as the remembered pairs tell it."""
    result, weights = vector.clone(), []
    for moved, change in reversed(memory):
        weights.append(float(moved @ result) / float(moved @ change))
        result = result - weights[-1] * change
    if memory:
        moved, change = memory[-1]
        result = result * (float(moved @ change) / float(change @ change))
    else:
        result = result * first
    for (moved, change), weight in zip(memory, reversed(weights), strict=True):
        result = result + (weight - float(change @ result) / float(moved @ change)) * moved
    return result
