"""Passes: what a saddle of index 1 joins, as a path from one minimum over the saddle to another.

From each saddle a descent on each side ends at a minimum. The two descents, with their points spread evenly
and relaxed, are the path of the pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.critical_points.minima import polish_minimum
from topo_core.objectives.protocol import Objective, Step
from topo_core.paths.polyline import resample
from topo_core.paths.profiles import loss_profile
from topo_core.paths.starts.minimax_search import descended, relaxed_paths

_STEP = Step(0, 0, 0)  # gradients are exact: it names no batch
POINTS = 19
"""Points of a path between two minima, and of each half of the path of a pass."""
_ROWS = 1 << 22  # numbers in one batch of paths: bounds the memory
_DESCENT = 0.1  # step of a recorded descent, in length scales of its saddle
_STEPS = 800  # of a recorded descent, at most
_SETTLED = (
    1e-6  # gradient at the end of a descent, relative to its steepest, at which it has converged
)
_RESETTLES = 10  # continuations of descents that have not converged, in flat valleys


@dataclass(frozen=True)
class Pass:
    """A saddle between two minima, or between a minimum and itself.

    Attributes:
        ends: indices of the minima below its two sides, in increasing order.
        path: [k, d], from the first end over the saddle to the second.
        top: the row of the saddle in ``path``.
        height: the highest loss on the path; the loss of the saddle within ``bracket``.
        bracket: of the dense maximum.
    """

    ends: tuple[int, int]
    path: Tensor
    top: int
    height: float
    bracket: float

    @property
    def saddle(self) -> Tensor:
        """[d]."""
        return self.path[self.top]


@dataclass(frozen=True)
class IndexOneSaddle:
    """A stationary point with one negative curvature.

    Attributes:
        point: [d].
        direction: [d], unit vector of the negative curvature.
        scale: distance over which the loss is known to fall on both sides of the point.
    """

    point: Tensor
    direction: Tensor
    scale: float


def passes_over(
    objective: Objective,
    saddles: Sequence[IndexOneSaddle],
    minimum_at: Callable[[Tensor], tuple[int, Tensor]],
) -> list[Pass]:
    """The pass over each of ``saddles``, in their order.

    Args:
        objective: the loss, with exact gradients.
        saddles: stationary points of index 1.
        minimum_at: index and exact point of the minimum at which a descent has ended.
    """
    if not saddles:
        return []
    tops = torch.stack([saddle.point for saddle in saddles])
    sides = torch.stack([saddle.direction for saddle in saddles])
    steps = _DESCENT * tops.new_tensor([saddle.scale for saddle in saddles])
    starts = torch.cat([tops + steps[:, None] * sides, tops - steps[:, None] * sides])
    descents, floor = _descents(objective, starts, torch.cat([steps, steps]))
    minima = [minimum_at(point) for point in floor]
    halves = [
        resample(torch.cat([tops[number % len(tops)][None], descent, end[None]]), POINTS)
        for number, (descent, (_, end)) in enumerate(zip(descents, minima, strict=True))
    ]
    smooth = relaxed_in_parts(objective, torch.stack(halves))
    passes = []
    for number in range(len(tops)):
        pair = (number, number + len(tops))
        (a, down), (b, other) = sorted(
            ((minima[half][0], smooth[half]) for half in pair), key=lambda side: side[0]
        )
        path = torch.cat([down.flip(0), other[1:]])
        profile = loss_profile(objective, path)
        passes.append(Pass((a, b), path, POINTS - 1, profile.maximum, profile.bracket))
    return passes


def _descents(objective: Objective, starts: Tensor, steps: Tensor) -> tuple[list[Tensor], Tensor]:
    """Steepest descents from ``starts`` [k, d] in even steps, and the minima [k, d] below."""
    points, trail = starts.clone(), [starts]
    before, slopes = objective.gradients(points, _STEP)
    steepest = torch.linalg.vector_norm(slopes, dim=1)
    size = steps.clone()
    for _ in range(_STEPS):
        losses, gradients = objective.gradients(points, _STEP)
        # A step that went up has crossed the floor of its valley: shorter ones from there.
        size = torch.where(losses > before, 0.5 * size, size)
        if bool((size < 1e-3 * steps).all()):
            break
        before = losses
        length = torch.linalg.vector_norm(gradients, dim=1).clamp_min(1e-300)
        steepest = torch.maximum(steepest, length)
        points = points - (size / length)[:, None] * gradients
        trail.append(points)
    floor = descended(objective, points, steps)
    for _ in range(_RESETTLES):
        _, slopes = objective.gradients(floor, _STEP)
        rough = torch.linalg.vector_norm(slopes, dim=1) > _SETTLED * steepest
        if not bool(rough.any()):
            break
        floor[rough] = descended(objective, floor[rough], steps[rough])
    else:  # what has still not converged would be taken for a minimum of its own
        _, slopes = objective.gradients(floor, _STEP)
        rough = torch.linalg.vector_norm(slopes, dim=1) > _SETTLED * steepest
        for row in torch.nonzero(rough).flatten().tolist():
            floor[row] = polish_minimum(objective, floor[row]).point
    return list(torch.stack(trail, dim=1)), floor


def relaxed_in_parts(objective: Objective, paths: Tensor) -> Tensor:
    """``minimax_search.relaxed_paths`` of ``paths`` [p, n, d], a bounded amount at a time."""
    each = max(1, _ROWS // paths[0].numel())
    return torch.cat([relaxed_paths(objective, part) for part in paths.split(each)])
