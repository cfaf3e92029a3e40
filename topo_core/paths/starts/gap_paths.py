"""Paths between two minima; searches for saddles begin at their peaks.

The first path of a pair is the straight line; later paths are arches beside it. Each path is relaxed in a few
steps. Its peaks are the points that are higher than both neighbours.
"""

import math

import torch
from torch import Tensor

from topo_core.critical_points.scaled_loss import ScaledLoss
from topo_core.paths.starts.relaxed_strings import relaxed
from topo_core.random_streams import generator

_POINTS = 13  # points of a path
_STEPS = 50  # steps of the relaxation
# heights of successive arches, in units of the distance of their ends
_ARCHES = (0.3, 0.3, 0.7, 0.7, 1.2, 1.2)


class GapPaths:
    """The paths of one search.

    Args:
        loss: the loss in the coordinates of the search.
        other: the loss in coordinates with another metric, in which the second path of a pair is relaxed
            (also a straight line); None to relax all paths in the coordinates of the search.
        seed: determines random directions of arches.
    """

    def __init__(self, loss: ScaledLoss, other: ScaledLoss | None, seed: int) -> None:
        self.loss, self.other, self.seed = loss, other, seed

    def relaxed(
        self, pairs: list[tuple[int, int]], ends: list[tuple[Tensor, Tensor]], attempts: list[int]
    ) -> list[tuple[Tensor, Tensor]]:
        """The relaxed path [n, d] and the losses [n] at its points, for each of some pairs of minima.

        Args:
            pairs: numbers of the two minima of each pair; they also seed the directions of arches.
            ends: the two minima [d] of each pair.
            attempts: number of paths that have been tried before for each pair.
        """
        groups = dict[bool, list[Tensor]]()
        for pair, (start, end), attempt in zip(pairs, ends, attempts, strict=True):
            elsewhere = attempt == 1 and self.other is not None
            groups.setdefault(elsewhere, []).append(self._path(start, end, pair, attempt))
        low = list[tuple[Tensor, Tensor]]()
        for elsewhere in sorted(groups):
            rows = torch.stack(groups[elsewhere])
            paths, losses = self._in_other_metric(rows) if elsewhere else self._relax(rows)
            low += zip(paths, losses, strict=True)
        return low

    def _relax(self, paths: Tensor) -> tuple[Tensor, Tensor]:
        return relaxed(self.loss, paths, _STEPS)

    def _in_other_metric(self, paths: Tensor) -> tuple[Tensor, Tensor]:
        assert self.other is not None
        before = self.other.rows
        low, losses = relaxed(self.other, self.other.coordinates(self.loss.theta(paths)), _STEPS)
        self.loss.gradient_rows += self.other.rows - before
        return self.loss.coordinates(self.other.theta(low)), losses

    def _path(self, start: Tensor, end: Tensor, pair: tuple[int, int], attempt: int) -> Tensor:
        """The path of an attempt: first the straight line, then arches on both sides.

        Later arches have other directions and heights.
        """
        weights = torch.linspace(0, 1, _POINTS, dtype=start.dtype, device=start.device)[:, None]
        straight = start + weights * (end - start)
        lines = 1 if self.other is None else 2
        if attempt < lines:
            return straight
        number, back = divmod(attempt - lines, 2)
        side = self._side(straight, pair, number)
        height = _ARCHES[number % len(_ARCHES)] * float((end - start).norm()) * (1 - 2 * back)
        path: Tensor = straight + torch.sin(math.pi * weights) * height * side
        return path

    def _side(self, straight: Tensor, pair: tuple[int, int], number: int) -> Tensor:
        """A unit vector [d] orthogonal to the line: alternately the main direction of the gradients and
        random."""
        along = (straight[-1] - straight[0]) / (straight[-1] - straight[0]).norm()
        if number % 2 == 0:
            _, gradients = self.loss.gradients(straight[1:-1])
            across = gradients - (gradients @ along)[:, None] * along
            if float(across.norm()) > 1e-6 * float(gradients.norm()):
                # The dominant right singular vector, from the small Gram matrix.
                _, vectors = torch.linalg.eigh(across @ across.T)
                main: Tensor = vectors[:, -1] @ across
                return torch.nn.functional.normalize(main, dim=0)
        draw = generator(self.seed, "arch", *pair, number)
        row = torch.randn(len(along), generator=draw, dtype=torch.float64).to(along)
        side: Tensor = row - (row @ along) * along
        return torch.nn.functional.normalize(side, dim=0, eps=1e-300)


def densely_sampled(path: Tensor) -> Tensor:
    """Points [m, d] on the polygon ``path`` [n, d], increasingly dense towards both ends.

    If an end is a shallow minimum, its pass is near that end.
    """
    last = len(path) - 1
    near = 0.25 ** torch.arange(5, 1, -1, dtype=torch.float64)
    quarters = torch.arange(1, 4 * last, dtype=torch.float64) / 4
    at = torch.cat([near, quarters, last - near.flip(0)]).to(path)
    segment = at.floor().long().clamp(max=last - 1)
    inside = torch.lerp(path[segment], path[segment + 1], (at - segment)[:, None])
    return torch.cat([path[:1], inside, path[-1:]])


def peaks(points: Tensor, losses: Tensor, least: float) -> list[tuple[Tensor, Tensor]]:
    """Peaks among ``points`` [n, d]: points higher than both neighbours by ``least``, in units of loss.

    Each is given with the chord [d] between its neighbours. ``losses`` [n] are those at the points.
    """
    higher = (losses[1:-1] > losses[:-2] + least) & (losses[1:-1] >= losses[2:] + least)
    tops = (torch.nonzero(higher).flatten() + 1).tolist()
    return [(points[k], points[k + 1] - points[k - 1]) for k in tops]
