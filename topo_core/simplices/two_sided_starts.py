"""Starts of a triangle that lie on two of its sides: for one whose third side runs along them.

The lowest path between two minima often leads past a third, and then the triangle of the three is a
sliver that bends. A harmonic sheet cuts across the bend, over the hill inside, and cannot unfold
within its own plane. So a start is made for each corner whose rows of nodes lie on the two sides that
meet there, each row from one of these sides to the other past the corner. What is left to be spanned
is the strip between the last row and the third side, straight across.
"""

import torch
from torch import Tensor

from topo_core.paths.polyline import arc_positions, at_positions
from topo_core.simplices.lattice import Lattice


def swept(fixed: Tensor, nodes: Lattice) -> Tensor:
    """[3, I, d], interior nodes of three starts, by the corner whose two sides they lie on.

    Args:
        fixed: [N - I, d], the boundary nodes of a triangle, in lattice order.
        nodes: its lattice.
    """
    m, width = nodes.subdivisions, fixed.shape[1]
    points = fixed.new_zeros(len(nodes.coordinates), width)
    points[nodes.boundary] = fixed
    inner = nodes.coordinates[nodes.interior]
    starts = []
    for corner in range(3):
        first, last = (other for other in range(3) if other != corner)
        rows = []
        for side, levels in ((first, range(m + 1)), (last, range(m - 1, -1, -1))):
            for level in levels:
                node = [0, 0, 0]
                node[corner], node[side] = level, m - level
                rows.append(nodes.place(tuple(node)))
        curve = points[rows]
        positions = arc_positions(curve)
        height = inner[:, corner]
        part = inner[:, last] / (m - height)
        low, high = positions[height.to(positions.device)], positions[2 * m - height]
        wanted = low + part.to(low) * (high - low)
        starts.append(at_positions(curve, positions, wanted))
    return torch.stack(starts)
