"""Coordinates for a search between two ends: their distance is 1, and curvatures are of similar size."""

import torch
from torch import Tensor

from topo_core.critical_points.scaled_loss import ScaledLoss, metric_basis
from topo_core.objectives.protocol import Objective

_SAMPLES = 5  # points of the straight line whose Hessians determine the metric


def search_coordinates(
    objective: Objective,
    start: Tensor,
    end: Tensor,
    *,
    dense: bool,
    units: Tensor | None = None,
) -> tuple[ScaledLoss, ScaledLoss | None]:
    """The loss in two coordinate systems in which the distance of the ends [d] is 1.

    The metric of the first is the mean of |H| over the straight line, that of the second the mean over the
    two ends. If ``dense`` is false, whole Hessians are not computed: the first coordinates are then the
    parameters in their ``units`` [d] (None for the given coordinates), divided by the distance of the ends,
    and the second is None. The same holds if fewer than two Hessians are finite.
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
    difference = end - start if units is None else (end - start) / units
    distance = float(difference.norm())
    return ScaledLoss(objective, start, None, distance if units is None else distance * units), None
