"""D of a segment is its length over mu = chord / (|path| - 1), where |path| is the number of points.

The chord is the distance between the ends of the initial path, so mu is the length of a segment of the
straight line with as many points. The paper divides the chord by |path|; then equal spacing would have D
above 1.
"""

from torch import Tensor

from topo_core.paths.criteria.protocol import Segments


class Distance:
    """Length relative to equal spacing."""

    needs_losses = False

    def scores(self, segments: Segments) -> Tensor:
        """D [n - 1] of each segment."""
        return segments.lengths * (len(segments.lengths) / max(segments.chord, 1e-30))


DISTANCE = Distance()
