"""The true pass between two points of a plane, by brute force on a grid, as an independent check."""

import numpy as np
import torch
from scipy import ndimage

from topo_core.objectives.protocol import Objective


class GridPasses:
    """Minimax heights on a grid of ``cells``² points, each joined with its eight neighbours."""

    def __init__(self, objective: Objective, low: float, high: float, cells: int = 801) -> None:
        self.low, self.high, self.cells = low, high, cells
        axis = torch.linspace(low, high, cells, dtype=torch.float64)
        points = torch.cartesian_prod(axis, axis)
        losses = torch.cat([objective.losses(chunk) for chunk in points.split(1 << 16)])
        self.losses = losses.reshape(cells, cells).numpy()

    def between(self, start: torch.Tensor, end: torch.Tensor) -> float:
        """The lowest height below which ``start`` and ``end`` [2] are in one component."""
        first, last = self._nearest(start), self._nearest(end)
        low = max(self.losses[first], self.losses[last])
        high = self.losses.max()
        while high - low > 1e-9 * max(1.0, abs(high)):
            middle = 0.5 * (low + high)
            labels, _ = ndimage.label(self.losses <= middle, structure=np.ones((3, 3)))
            joined = labels[first] == labels[last]
            low, high = (low, middle) if joined else (middle, high)
        return float(high)

    def _nearest(self, point: torch.Tensor) -> tuple[int, int]:
        i, j = ((point - self.low) / (self.high - self.low) * (self.cells - 1)).round().tolist()
        return int(i), int(j)
