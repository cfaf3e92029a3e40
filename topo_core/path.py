"""Polygons in parameter space: a path is its points [n, d], in order, ends included."""

import itertools

import torch
from torch import Tensor


def line(start: Tensor, end: Tensor, points: int) -> Tensor:
    """``points`` points [n, d] at equal distance on the segment from ``start`` to ``end`` [d].

    The ends are exact copies.
    """
    weights = torch.linspace(0, 1, points, dtype=start.dtype, device=start.device)[:, None]
    path = start + weights * (end - start)
    path[0], path[-1] = start, end
    return path


def segment_lengths(points: Tensor) -> Tensor:
    """Lengths [n - 1] of the segments of ``points`` [n, d]."""
    lengths: Tensor = torch.linalg.vector_norm(points[1:] - points[:-1], dim=1)
    return lengths


def arc_positions(points: Tensor) -> Tensor:
    """Fraction of the arc length, [n] in float64 from 0 to 1, at which each point lies.

    A path without length is given equal steps.
    """
    return positions_of(segment_lengths(points).to(torch.float64))


def positions_of(measure: Tensor) -> Tensor:
    """Positions [n] from 0 to 1 of points whose segments have the sizes ``measure`` [n - 1]."""
    total = measure.sum()
    if not total > 0:
        size = len(measure) + 1
        return torch.linspace(0, 1, size, dtype=torch.float64, device=measure.device)
    positions = torch.cat([measure.new_zeros(1), measure.cumsum(0)]) / total
    positions[-1] = 1.0
    return positions


def at_positions(rows: Tensor, positions: Tensor, wanted: Tensor) -> Tensor:
    """Rows [n, c], given at increasing ``positions`` [n], interpolated linearly at ``wanted`` [m].

    ``rows`` may be the points themselves or anything carried by them (optimiser slots).
    """
    right = torch.searchsorted(positions, wanted, right=True).clamp(1, len(positions) - 1)
    left = right - 1
    gap = positions[right] - positions[left]
    weight = torch.where(gap > 0, (wanted - positions[left]) / gap, torch.zeros_like(gap))
    return torch.lerp(rows[left], rows[right], weight.clamp(0, 1).to(rows.dtype)[:, None])


def resample(points: Tensor, count: int) -> Tensor:
    """``count`` points [count, d] at equal arc length on the polygon ``points`` [n, d].

    The ends are exact copies (string method: E, Ren & Vanden-Eijnden 2007).
    """
    positions = arc_positions(points)
    wanted = torch.linspace(0, 1, count, dtype=torch.float64, device=points.device)
    path = at_positions(points, positions, wanted)
    path[0], path[-1] = points[0], points[-1]
    return path


def through(paths: list[Tensor], count: int) -> Tensor:
    """One path of ``count`` points along ``paths``, each starting where the one before ends.

    Raises:
        ValueError: when two consecutive paths do not meet.
    """
    for index, (before, after) in enumerate(itertools.pairwise(paths)):
        if not torch.equal(before[-1], after[0]):
            raise ValueError(
                f"path {index + 1} does not start where path {index} ends; give the paths in "
                "order, and reverse those that run backwards."
            )
    return resample(torch.cat([paths[0], *(path[1:] for path in paths[1:])]), count)


def merge_coincident(points: Tensor) -> tuple[Tensor, int]:
    """``points`` [n, d] without repeats of their predecessor, and how many were dropped.

    Tangents divide by the distance of neighbours. The two ends always stay.
    """
    keep = torch.ones(len(points), dtype=torch.bool, device=points.device)
    keep[1:-1] = (segment_lengths(points) > 0)[:-1]
    if len(points) > 2 and torch.equal(points[-2], points[-1]):
        keep[-2] = False
    return points[keep], int((~keep).sum())
