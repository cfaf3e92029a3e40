"""The barcodes of a function on a grid, by GUDHI's cubical complex: no path takes part in it."""

import gudhi
import numpy as np
import torch

from topo_core.objective import Objective


def grid_bars(
    objective: Objective, low: float, high: float, cells: int, dimension: int = 2
) -> dict[int, np.ndarray]:
    """Bars [m, 2] of each index below ``dimension`` on the box [low, high]^dimension."""
    axis = torch.linspace(low, high, cells, dtype=torch.float64)
    places = torch.cartesian_prod(*[axis] * dimension)
    losses = torch.cat([objective.losses(chunk) for chunk in places.split(1 << 16)])
    box = gudhi.CubicalComplex(vertices=losses.reshape([cells] * dimension).numpy())
    box.compute_persistence(min_persistence=0)
    return {index: box.persistence_intervals_in_dimension(index) for index in range(dimension)}


def distance(truth: np.ndarray, bars, least: float) -> float:
    """Bottleneck distance of the bars longer than ``least``; a grid has ripples."""
    ours = np.array([(bar.birth, bar.death) for bar in bars]).reshape(-1, 2)
    long_ = [points[points[:, 1] - points[:, 0] > least] for points in (truth, ours)]
    return float(gudhi.bottleneck_distance(*long_, e=0))
