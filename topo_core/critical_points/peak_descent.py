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

from topo_core.critical_points.lbfgs import CurvaturePairs

Gradient = Callable[[Tensor], tuple[float, Tensor]]
"""Loss, and gradient [d], at a point [d]."""

_MEMORY = 10  # pairs of L-BFGS
_LONGEST = 0.25  # step across, in radii
_FIRST = 0.01  # first step across, in radii: no curvature is known yet
_UP = 0.25  # longest step along a line, in radii
_SECANTS = 4  # secant steps along one line, at most
_LEVEL = 0.03  # ratio of the slopes along and across a line, below which a point counts as its top
_ARMIJO = (
    1e-4  # part of the predicted fall that a step must bring (Nocedal & Wright 2006, section 3.1)
)
_SHRINK = 0.3  # factor of a step that was too long
_SHORTEST = 1e-4  # part of a step, below which it is not shortened further


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
    pairs = CurvaturePairs.none(peak)
    for _ in range(steps):
        point, loss, across = here
        size = float(across.norm())
        if max(size, abs(line.slope)) <= 0.7 * enough or size == 0:
            break
        move = -pairs.inverse_times(across, _FIRST * radius / size)
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
        pairs = pairs.with_step(line.across(there[0] - point), there[2] - across, _MEMORY)
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
