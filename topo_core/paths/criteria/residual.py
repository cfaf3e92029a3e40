"""D of a segment is 1 plus the rise of the loss inside it above linear interpolation between its ends.

The rise is a fraction of the range of losses at the points (AutoNEB: Draxler et al. 2018), so D does not
change under L → aL + b.
"""

import torch
from torch import Tensor

from topo_core.paths.criteria.protocol import ALPHAS, Segments


class Residual:
    """Rise of the loss inside a segment above linear interpolation."""

    needs_losses = True

    def scores(self, segments: Segments) -> Tensor:
        """D [n - 1] of each segment."""
        nodes, inside = segments.node_losses, segments.inside
        alphas = torch.tensor(ALPHAS, dtype=inside.dtype, device=inside.device)
        linear = torch.lerp(nodes[:-1, None], nodes[1:, None], alphas)
        spread = (nodes.max() - nodes.min()).clamp_min(1e-30)
        return 1 + (inside - linear).amax(1) / spread


RESIDUAL = Residual()
