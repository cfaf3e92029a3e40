"""The type of all reference landscapes: an objective and what is known about it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.critical_points.minima import polish_minimum
from topo_core.objectives.protocol import FunctionObjective, Objective, from_function


@dataclass(frozen=True)
class Landscape:
    """An objective and what is known about it; unknown properties are empty or None.

    Attributes:
        objective: the loss.
        minima: [m, d] float64, lowest first where losses differ.
        losses: [m], losses at the minima.
        passes: for pairs i < j of minima, the lowest possible maximum of a path between them, if it is known.
        saddles: [s, d] float64, of index 1.
        saddle_ends: [s, 2, d], the minima below both sides of each saddle.
        barcode: (birth, death) of the bars of index 0, one bar for each class of symmetric copies; the death
            of the first bar is infinite.
    """

    objective: Objective
    minima: Tensor
    losses: Tensor
    passes: Mapping[tuple[int, int], float]
    saddles: Tensor | None = None
    saddle_ends: Tensor | None = None
    barcode: tuple[tuple[float, float], ...] | None = None


def landscape_of(
    loss: Callable[[Tensor], Tensor],
    near: Sequence[Sequence[float]],
    passes: Mapping[tuple[int, int], float],
) -> Landscape:
    """The landscape of ``loss``; descents from the points ``near`` give its minima, without repeats.

    The minima are in the order of ``near`` if ``passes`` is not empty, otherwise in the order of their
    losses.
    """
    objective: FunctionObjective = from_function(loss, len(near[0]))
    minima: list[Tensor] = []
    for point in near:
        minimum = polish_minimum(objective, torch.tensor(point, dtype=torch.float64)).point
        if all(float((minimum - other).norm()) > 1e-4 for other in minima):
            minima.append(minimum)
    points = torch.stack(minima)
    losses = objective.losses(points)
    if not passes:
        order = losses.argsort(stable=True)
        points, losses = points[order], losses[order]
    return Landscape(objective, points, losses, passes)
