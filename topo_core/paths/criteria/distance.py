"""D of a segment is its length over mu = chord / (|path| - 1), the length of a segment of the first line.

The text divides by |path|, which would make equal spacing score above 1. The chord is
the one of the first path, since the ends may move.
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
