"""Many steepest descents at once, each recorded as a curve with the known minimum at its end, if any."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from topo_core.morse.descent_curves import DescentCurve
from topo_core.morse.random_walkers import SAME_DISTANCE
from topo_core.objectives.protocol import Objective, Step
from topo_core.paths.starts.minimax_search import descended

_STEP = Step(0, 0, 0)  # gradients are exact: it names no batch
_LONGEST = 0.02  # longest step, in sizes of the set of minima
_GROWTH = 0.3  # longest step, in distances from the centre
_STEPS = 3000  # at most
_REST = 1e-6  # gradient at which a descent has converged, relative to its steepest
_LOOK = 25  # steps between checks of convergence
_CAUGHT = 0.5  # distance from a minimum at which a descent has converged to it, in longest steps
_ROWS = 1 << 24  # numbers in the recorded points of one batch


def steepest_descents(
    objective: Objective,
    leads: Sequence[Tensor],
    centres: Tensor,
    minima: Tensor,
    size: float,
    time: float,
) -> list[DescentCurve]:
    """Descents from the ends of ``leads`` [r, d], away from ``centres`` [k, d]; each begins with its lead."""
    each = max(1, _ROWS // (_STEPS * minima.shape[1]))
    found = []
    for first in range(0, len(leads), each):
        part = leads[first : first + each]
        starts = torch.stack([lead[-1] for lead in part])
        trails, floors = _trails(
            objective, starts, centres[first : first + each], minima, _LONGEST * size, time
        )
        apart = torch.cdist(floors, minima).min(1)
        for ray, trail, near, index in zip(
            part, trails, apart.values.tolist(), apart.indices.tolist(), strict=True
        ):
            end = index if near <= SAME_DISTANCE * size else None
            floor = trail[-1:] if end is None else minima[end][None]
            gap = math.ceil(float((floor - trail[-1]).norm()) / (_LONGEST * size))
            parts = torch.linspace(0, 1, gap + 1, dtype=trail.dtype, device=trail.device)[1:, None]
            points = torch.cat([ray[:-1], trail, trail[-1] + parts * (floor - trail[-1])])
            found.append(DescentCurve.of(points, objective.losses(points), end))
    return found


def _trails(
    objective: Objective,
    starts: Tensor,
    centres: Tensor,
    minima: Tensor,
    longest: float,
    time: float,
) -> tuple[list[Tensor], Tensor]:
    """Points of the descents from ``starts`` [k, d], and the minima [k, d] below.

    Steps are short enough for the largest curvature, so none is rejected: then each point depends
    continuously on its start, and neighbours part only where a pass lies between them.
    """
    points, near = starts.clone(), _CAUGHT * longest
    trail, gone = [points], [torch.zeros(len(points), dtype=torch.float64)]
    steepest = torch.zeros(len(points), dtype=points.dtype, device=points.device)
    for step in range(1, _STEPS + 1):
        _, gradients = objective.gradients(points, _STEP)
        size = torch.linalg.vector_norm(gradients, dim=1, keepdim=True).clamp_min(1e-300)
        away = torch.linalg.vector_norm(points - centres, dim=1, keepdim=True)
        bound = (_GROWTH * away).clamp_max(longest)
        rate = (bound / size).clamp_max(time)
        points = points - rate * gradients
        trail.append(points)
        gone.append(gone[-1] + (rate * size / bound)[:, 0].double().cpu())
        steepest = torch.maximum(steepest, size[:, 0])
        if step % _LOOK == 0:
            still = size[:, 0] <= _REST * steepest
            if bool((still | (torch.cdist(points, minima).amin(1) <= near)).all()):
                break
    floors = descended(objective, points, near)
    # About two points per longest step are kept.
    marks = torch.stack(gone, dim=1).mul(2).floor()
    new = torch.cat([torch.ones_like(marks[:, :1]), marks.diff(dim=1)], dim=1) > 0
    whole = torch.stack(trail, dim=1)
    return [rows[mark.to(rows.device)] for rows, mark in zip(whole, new, strict=True)], floors
