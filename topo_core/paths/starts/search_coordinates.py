"""Coordinates of a search between two ends: their distance is 1, and curvatures are of one size."""

import torch
from torch import Tensor

from topo_core.critical_points.scaled_loss import ScaledLoss, metric_basis
from topo_core.objectives.protocol import Objective

_SAMPLES = 5  # points of the straight line whose Hessians make the metric


def search_coordinates(
    objective: Objective, start: Tensor, end: Tensor, *, dense: bool
) -> tuple[ScaledLoss, ScaledLoss | None]:
    """The loss in coordinates in which the distance of the ends [d] is 1, and in others.

    The metrics are means of |H|, of the first over the straight line and of the second over the two ends.
    Where Hessians are not taken whole (``dense`` is false), the coordinates are scaled parameters, and there
    is no second.
    """
    plain = ScaledLoss(objective, start)
    if dense:
        weights = torch.linspace(0, 1, _SAMPLES, dtype=start.dtype, device=start.device)[:, None]
        hessians = plain.hessians(weights * (end - start))
        hessians = hessians[hessians.isfinite().flatten(1).all(1)]
        if len(hessians) >= 2:
            scaled = list[ScaledLoss]()
            for rows in (hessians, hessians[[0, -1]]):
                basis = metric_basis(rows)
                length = float((torch.linalg.inv(basis) @ (end - start)).norm())
                scaled.append(ScaledLoss(objective, start, basis * length))
            first, second = scaled
            first.gradient_rows, first.product_rows = plain.gradient_rows, plain.product_rows
            return first, second
    return ScaledLoss(objective, start, None, float((end - start).norm())), None
