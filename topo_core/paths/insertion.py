"""Where a path gets new points (Algorithm 3).

Points that are optimised independently drift apart, and the polygon between them then crosses high loss that
no point sees. Every ``every`` epochs a criterion (`criteria`) gives each segment a number D, and the two
largest above the threshold get a midpoint. (The paper inserts the second midpoint even below the threshold,
and its indices overwrite a point, while its number of points shows that an insertion is meant.)
"""

import torch
from torch import Tensor

_AT_ONCE = 2  # new points of one insertion (Algorithm 3)


def chosen(score: Tensor, threshold: float, room: int) -> list[int]:
    """Segments to be split, the larger index first so that the smaller stays valid.

    At most two, at most ``room`` (points that the path may still get), and only those above ``threshold``.
    """
    order = torch.argsort(score, descending=True, stable=True)[: min(_AT_ONCE, room)]
    return sorted((int(i) for i in order if score[i] > threshold), reverse=True)


def insert(rows: Tensor, segments: list[int]) -> Tensor:
    """``rows`` [n, c] with a midpoint in each of ``segments`` (descending indices)."""
    for segment in segments:
        middle = torch.lerp(rows[segment], rows[segment + 1], 0.5)[None]
        rows = torch.cat([rows[: segment + 1], middle, rows[segment + 1 :]])
    return rows
