"""D of a segment is the highest loss inside the segment over the highest loss at the points.

The paper writes L_max in one formula and L_min in another; with L_min, near 0, every segment would be
above the threshold.
"""

from torch import Tensor

from topo_core.paths.criteria.protocol import Segments


class Loss:
    """Loss inside a segment relative to the highest loss at the points."""

    needs_losses = True

    def scores(self, segments: Segments) -> Tensor:
        """D [n - 1] of each segment."""
        return segments.inside.amax(1) / segments.node_losses.max()


LOSS = Loss()
