"""D of a segment is its length over mu = chord / (|path| - 1), the length of a segment of the first line.

The paper divides by |path|, with which equal spacing would score above 1. The chord is that of the first
path.
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
