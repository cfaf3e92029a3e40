"""Polygons in parameter space: a path is its points [n, d], in order, ends included."""

import itertools

import torch
from torch import Tensor


def line(start: Tensor, end: Tensor, points: int) -> Tensor:
    """``points`` equally spaced points [points, d] on the segment from ``start`` [d] to ``end`` [d].

    The ends are exact copies.
    """
    weights = torch.linspace(0, 1, points, dtype=start.dtype, device=start.device)[:, None]
    path = start + weights * (end - start)
    path[0], path[-1] = start, end
    return path


def segment_lengths(points: Tensor) -> Tensor:
    """Lengths [..., n - 1] of the segments of ``points`` [..., n, d]."""
    lengths: Tensor = torch.linalg.vector_norm(points[..., 1:, :] - points[..., :-1, :], dim=-1)
    return lengths


def arc_positions(points: Tensor) -> Tensor:
    """The position of each of ``points`` [..., n, d]: its fraction of the arc length, [..., n] float64, 0 to
    1.

    On a path of length 0 the positions are equally spaced.
    """
    return positions_of(segment_lengths(points).to(torch.float64))


def positions_of(measure: Tensor) -> Tensor:
    """Positions [..., n] from 0 to 1 of points whose segments have the sizes ``measure`` [..., n - 1]."""
    total = measure.sum(-1, keepdim=True)
    even = torch.linspace(0, 1, measure.shape[-1] + 1, dtype=measure.dtype, device=measure.device)
    positions = torch.cat([torch.zeros_like(total), measure.cumsum(-1)], dim=-1) / total
    positions[..., -1] = 1.0
    return torch.where(total > 0, positions, even)


def at_positions(rows: Tensor, positions: Tensor, wanted: Tensor) -> Tensor:
    """``rows`` at increasing ``positions``, interpolated linearly at the positions ``wanted`` [m].

    Rows [n, c] at positions [n] give [m, c]; for p paths, rows [p, n, c] at positions [p, n] give [p, m, c].
    The rows may be the points, or values of each point such as optimiser slots.
    """
    wanted = wanted.expand(*positions.shape[:-1], -1).contiguous()
    right = torch.searchsorted(positions, wanted, right=True).clamp(1, positions.shape[-1] - 1)
    left = right - 1
    before = positions.gather(-1, left)
    gap = positions.gather(-1, right) - before
    weight = torch.where(gap > 0, (wanted - before) / gap, torch.zeros_like(gap)).clamp(0, 1)
    path = () if rows.ndim == 2 else (torch.arange(len(rows), device=rows.device)[:, None],)
    return torch.lerp(rows[*path, left], rows[*path, right], weight.to(rows.dtype)[..., None])


def resample(points: Tensor, count: int) -> Tensor:
    """``count`` points [count, d], equally spaced in arc length on the polygon ``points`` [n, d].

    The ends are exact copies (string method: E, Ren & Vanden-Eijnden 2007).
    """
    positions = arc_positions(points)
    wanted = torch.linspace(0, 1, count, dtype=torch.float64, device=points.device)
    path = at_positions(points, positions, wanted)
    path[0], path[-1] = points[0], points[-1]
    return path


def through(paths: list[Tensor], count: int) -> Tensor:
    """One path [count, d] along ``paths``, a list of [n, d], each of which starts where the one before ends.

    Raises:
        ValueError: a path does not start at the end of the one before.
    """
    for index, (before, after) in enumerate(itertools.pairwise(paths)):
        if not torch.equal(before[-1], after[0]):
            raise ValueError(
                f"path {index + 1} does not start where path {index} ends; give the paths in "
                "order, and reverse those that run backwards."
            )
    return resample(torch.cat([paths[0], *(path[1:] for path in paths[1:])]), count)


def merge_coincident(points: Tensor) -> tuple[Tensor, int]:
    """``points`` [n, d] without points that equal their predecessor, and the number of dropped points.

    Tangents divide by the distance of neighbours, so it must not be 0. The two ends always stay: if points
    coincide with the last point, the last point is kept.
    """
    keep = torch.ones(len(points), dtype=torch.bool, device=points.device)
    keep[1:-1] = (segment_lengths(points) > 0)[:-1]
    inner = len(points) - 2
    while inner > 0 and torch.equal(points[inner], points[-1]):
        keep[inner] = False
        inner -= 1
    return points[keep], int((~keep).sum())
