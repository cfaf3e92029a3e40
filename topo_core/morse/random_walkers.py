"""Critical points from many random starts, all walkers at once.

Paths between known minima lead over some passes, and miss a shallow basin beside all of them. Here walkers
start at random points. Each descends to the minimum below it, and climbs along its direction of lowest
curvature while it descends across it, which ends at a pass (minimum-mode following: Cerjan & Miller 1981; the
dimer method of Henkelman & Jónsson 1999).

Evidence for completeness: full rounds of walkers that found no new critical point. There is no proof.
"""

import torch
from torch import Tensor

from topo_core.critical_points.barzilai_borwein import secant_steps
from topo_core.objectives.curvature import hessian_vector_products
from topo_core.objectives.protocol import Objective, Step

_STEP = Step(0, 0, 0)  # gradients are exact: it names no batch
_CLIMB = 80  # steps of a climb
LONGEST_MOVE = 0.5
"""Longest step of a climb, in spacings."""
SAME_DISTANCE = 1e-3
"""Distance up to which two points count as one, relative to the size of the set of minima."""
STRIDE = 0.05
"""Spacing of walkers, relative to the size of the set of minima."""
QUIET_ROUNDS = 2
"""Rounds of walkers in a row without a new point, after which a search stops."""
_FIRST_MOVE = 0.04  # first step, relative to the longest
_TURNS = 2  # Hessian-vector products spent on the direction in each step
_WIDE = 1.5  # distance of the farthest starts, in extents of the known points
FAR = 2.0
"""Farthest start from the middle, in sizes of the set of given minima, where ``reach`` is None."""
_THIN = 0.25  # smallest extent along an axis, relative to the largest
_ALL_AXES = 8  # dimensions up to which walkers start outside the span of the known points
_BESIDE = 8  # walkers that start close to each new point


def climb_walkers(
    objective: Objective, starts: Tensor, along: Tensor, spacing: float
) -> tuple[Tensor, Tensor]:
    """The points [k, d] to which walkers from ``starts`` [k, d] have climbed, and their directions.

    Most are close to passes; some never converge, and the caller checks which are passes.

    Args:
        objective: the loss, with exact gradients.
        starts: where they start.
        along: [k, d], the first directions, of any length.
        spacing: the length scale of a step.
    """
    points = starts.clone()
    along = _unit(along)
    moves = WalkerSteps(LONGEST_MOVE * spacing)
    for _ in range(_CLIMB):
        _, gradients = objective.gradients(points, _STEP)
        along, curvature = _turned(objective, points, along)
        slope = torch.linalg.vecdot(gradients, along)[:, None]
        across = gradients - slope * along
        points = points + moves.next(across, slope, curvature, along[:, None])
    return points, along


class WalkerSteps:
    """The steps of walkers that climb along some directions and descend across them.

    A walker descends by secant steps (Barzilai & Borwein 1988) of its own length. Along a concave direction
    it climbs to the top of the parabola.
    """

    def __init__(self, longest: float) -> None:
        """``longest``: of the step across, and of the step along each direction."""
        self._longest = longest
        self._before: tuple[Tensor, Tensor, Tensor] | None = None  # step, gradient, move

    def next(self, across: Tensor, slopes: Tensor, curvatures: Tensor, frames: Tensor) -> Tensor:
        """The next step of each walker, [k, d].

        Args:
            across: [k, d], gradients across the directions.
            slopes: [k, q], along them.
            curvatures: [k, q], curvatures along them.
            frames: [k, q, d], the directions.
        """
        size = torch.linalg.vector_norm(across, dim=1, keepdim=True).clamp_min(1e-300)
        if self._before is None:
            step = _FIRST_MOVE * self._longest / size
        else:
            step, across_before, moved = self._before
            step = secant_steps(moved, across - across_before, step)
        down = -step * across
        length = torch.linalg.vector_norm(down, dim=1, keepdim=True)
        down = down * (self._longest / length).clamp_max(1)
        # Newton's step to the top where a direction is concave, else a plain one up.
        up = torch.where(curvatures < 0, -slopes / curvatures, self._longest * slopes.sign())
        up = up.clamp(-self._longest, self._longest)
        following: Tensor = down + torch.einsum("kq,kqd->kd", up, frames)
        self._before = step, across, following
        return following


def start_box(middle: Tensor, known: Tensor, size: float) -> Tensor:
    """The box of random starts around ``middle`` [d]: half its edges as rows [a, d].

    Args:
        middle: centre of the box.
        known: [k, d], minima and saddles; the box extends beyond them.
        size: extent of the set of given minima.
    """
    if known.shape[1] <= _ALL_AXES:
        axes = torch.eye(known.shape[1], dtype=known.dtype, device=known.device)
    else:
        _, sizes, axes = torch.linalg.svd(known - middle, full_matrices=False)
        axes = axes[sizes > 1e-9 * sizes.max()]
    reach = _WIDE * ((known - middle) @ axes.T).abs().amax(0)
    # A single minimum has no extent.
    least = max(_THIN * float(reach.max()), size if len(known) == 1 else 0.0)
    reach = reach.clamp_min(least).clamp_max(FAR * size)
    edges: Tensor = reach[:, None] * axes
    return edges


def starts_beside(points: Tensor, stride: float, draw: torch.Generator) -> Tensor:
    """[8 k, d], starts around each of ``points`` [k, d], at distances up to ``stride``."""
    middles = points.repeat_interleave(_BESIDE, dim=0)
    directions = torch.randn(middles.shape, generator=draw, dtype=torch.float64).to(points)
    directions /= torch.linalg.vector_norm(directions, dim=1, keepdim=True)
    sizes = 10 ** (-1.5 * torch.rand(len(middles), 1, generator=draw, dtype=torch.float64))
    return middles + stride * sizes.to(points) * directions


def _unit(rows: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min(1e-300)
    found: Tensor = rows / length
    return found


def _turned(objective: Objective, points: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
    """``along`` [k, d] turned towards the lowest curvature, and the curvature [k, 1].

    By Rayleigh–Ritz in the plane of each direction and its residual.
    """
    image = hessian_vector_products(objective, points, along)
    curvature = torch.linalg.vecdot(along, image)[:, None]
    for _ in range(_TURNS):
        rest = image - curvature * along
        length = torch.linalg.vector_norm(rest, dim=1, keepdim=True)
        other = rest / length.clamp_min(1e-300)
        other_image = hessian_vector_products(objective, points, other)
        # The 2x2 matrix [[a, b], [b, c]]: its lower eigenvalue and the angle of the vector.
        a, b = curvature, length
        c = torch.linalg.vecdot(other, other_image)[:, None]
        angle = 0.5 * torch.atan2(2 * b, a - c) + 0.5 * torch.pi
        cosine, sine = angle.cos(), angle.sin()
        sign = torch.where(cosine < 0, -1.0, 1.0)
        along = sign * (cosine * along + sine * other)
        image = sign * (cosine * image + sine * other_image)
        along, scale = _unit(along), torch.linalg.vector_norm(along, dim=1, keepdim=True)
        image = image / scale.clamp_min(1e-300)
        curvature = torch.linalg.vecdot(along, image)[:, None]
    return along, curvature
