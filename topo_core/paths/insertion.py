"""Where a path gets new points (Algorithm 3).

Points that were optimised alone drift apart, and the polygon between them then crosses high
loss that no point sees. Every ``every`` epochs each segment is given a number D by a criterion:

``distance`` its length over mu = chord / (|path| - 1). The text divides by |path|, which would
             make equal spacing score above 1. The chord is the initial one: the ends may move.
``loss``     the highest loss inside it over the highest loss of the points. The text writes
             L_max in one place and L_min in another; with L_min, near 0, it would always fire.
``residual`` 1 + how far the loss inside rises above linear interpolation, as a fraction of the
             range of losses of the points (AutoNEB: Draxler et al. 2018).

The two largest D above ``threshold`` get a midpoint. (The text inserts the second one even
below the threshold, and overwrites a point where the count shows that it means insertion.)
"""

import torch
from torch import Tensor

from topo_core.paths.insertion_settings import Criterion

ALPHAS = (0.2, 0.4, 0.6, 0.8)  # where the paper looks at a segment (section 2.7)
_AT_ONCE = 2


def scores(
    criterion: Criterion, lengths: Tensor, chord: float, node_losses: Tensor, inside: Tensor
) -> Tensor:
    """D [n - 1] of each segment.

    Args:
        criterion: the measure.
        lengths: [n - 1] of the segments.
        chord: distance of the path's first ends.
        node_losses: [n] of the points.
        inside: [n - 1, 4] at ``ALPHAS`` of each segment; not read by ``distance``.
    """
    if criterion == "distance":
        return lengths * (len(lengths) / max(chord, 1e-30))
    top = node_losses.max()
    if criterion == "loss":
        return inside.amax(1) / top
    alphas = torch.tensor(ALPHAS, dtype=inside.dtype, device=inside.device)
    linear = torch.lerp(node_losses[:-1, None], node_losses[1:, None], alphas)
    spread = (top - node_losses.min()).clamp_min(1e-30)
    return 1 + (inside - linear).amax(1) / spread


def chosen(score: Tensor, threshold: float, room: int) -> list[int]:
    """Segments to be split, the larger index first so that the smaller stays valid.

    At most two, at most ``room``, and only those above ``threshold``.
    """
    order = torch.argsort(score, descending=True, stable=True)[: min(_AT_ONCE, room)]
    return sorted((int(i) for i in order if score[i] > threshold), reverse=True)


def insert(rows: Tensor, segments: list[int]) -> Tensor:
    """``rows`` [n, c] with a midpoint in each of ``segments`` (descending indices)."""
    for segment in segments:
        middle = torch.lerp(rows[segment], rows[segment + 1], 0.5)[None]
        rows = torch.cat([rows[: segment + 1], middle, rows[segment + 1 :]])
    return rows
