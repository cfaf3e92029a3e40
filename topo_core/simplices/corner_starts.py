"""Initial triangles that lie on two of their sides, for triangles whose third side runs along the other two.

The lowest path between two minima often passes close to a third minimum. The triangle of the three minima is
then narrow and curved. A harmonic start cuts across the curve, over higher loss, and cannot leave its own
plane. So a start is made for each corner: its rows of nodes lie on the two sides that meet at the corner, and
each row goes from one side past the corner to the other side. Only the narrow strip between the last row and
the third side remains.
"""

import torch
from torch import Tensor

from topo_core.paths.polyline import arc_positions, at_positions
from topo_core.simplices.lattice import Lattice


def two_sided_starts(fixed: Tensor, nodes: Lattice) -> Tensor:
    """The interior nodes [3, I, d] of three starts, one for each corner.

    Args:
        fixed: [N - I, d], the boundary nodes of a triangle, in lattice order.
        nodes: the lattice of the triangle.
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
                rows.append(nodes.row(tuple(node)))
        curve = points[rows]
        positions = arc_positions(curve)
        height = inner[:, corner]
        part = inner[:, last] / (m - height)
        low, high = positions[height.to(positions.device)], positions[2 * m - height]
        wanted = low + part.to(low) * (high - low)
        starts.append(at_positions(curve, positions, wanted))
    return torch.stack(starts)
