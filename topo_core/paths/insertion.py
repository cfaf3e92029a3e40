"""Where a path gets new points (Algorithm 3).

Points that are optimised independently drift apart. The polygon between them may then cross regions of high
loss that contain no point. So every ``every`` epochs a criterion (`criteria`) assigns a number D to each
segment, and the two segments with the largest D above the threshold get a midpoint. (The paper inserts the
second midpoint even if its D is below the threshold. Its indices overwrite a point, but its number of points
shows that an insertion is meant.)
"""

import torch
from torch import Tensor

_AT_ONCE = 2  # new points of one insertion (Algorithm 3)


def segments_to_split(score: Tensor, threshold: float, room: int) -> list[int]:
    """Indices of the segments to be split, the larger one first so that the smaller one stays valid.

    They are at most two, at most ``room`` (the number of points that the path may still get), and only those
    whose ``score`` [n - 1] is above ``threshold``.
    """
    order = torch.argsort(score, descending=True, stable=True)[: min(_AT_ONCE, room)]
    return sorted((int(i) for i in order if score[i] > threshold), reverse=True)


def insert(rows: Tensor, segments: list[int]) -> Tensor:
    """``rows`` [n, c] with a midpoint in each of ``segments`` (descending indices)."""
    for segment in segments:
        middle = torch.lerp(rows[segment], rows[segment + 1], 0.5)[None]
        rows = torch.cat([rows[: segment + 1], middle, rows[segment + 1 :]])
    return rows
