"""The soft modes of minima, along which a search climbs to saddles (Cerjan & Miller 1981)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.critical_points.lanczos import lowest_eigenpairs
from topo_core.critical_points.scaled_loss import ScaledLoss
from topo_core.random_streams import generator

_AT_ONCE = 6  # modes climbed in one round, each in both directions
_UPHILL = 0.01  # rise of the first step from a minimum, as a fraction of ``rise``
# tolerance and largest number of products of Lanczos, where it is used
_ACCURACY, _PRODUCTS = 0.1, 40


@dataclass(frozen=True)
class Climbs:
    """Starts of climbs from one minimum, two for each mode.

    Attributes:
        starts: [k, d], the points after the first steps.
        directions: [k, d], unit vectors along the modes.
        radius: [k], lengths of the first steps.
        hessians: [k, d, d], the Hessian of the minimum for each start; None if it was not computed as a
            whole.
    """

    starts: Tensor
    directions: Tensor
    radius: Tensor
    hessians: Tensor | None


class SoftModes:
    """Which modes of which minima have been climbed.

    Args:
        loss: the loss in the coordinates of the search.
        most: largest number of modes climbed from a minimum.
        longest: longest first step, in the coordinates of the search.
        dense: whether whole Hessians are computed; otherwise modes come from Lanczos.
        seed: determines the first Lanczos vectors.
    """

    def __init__(
        self, loss: ScaledLoss, *, most: int, longest: float, dense: bool, seed: int
    ) -> None:
        self.loss, self.dense, self.seed, self.longest = loss, dense, seed, longest
        self.most = min(loss.dimension, most)
        self._climbed: dict[int, int] = {}
        self._modes: dict[int, tuple[Tensor | None, Tensor, Tensor]] = {}

    def climbed(self, minimum: int) -> int:
        """How many modes of the minimum with this number have been climbed."""
        return self._climbed.get(minimum, 0)

    def left(self, minima: Sequence[int]) -> list[int]:
        """Those of ``minima`` that have modes left to climb."""
        return [i for i in minima if self.climbed(i) < self.most]

    def next(self, minimum: int, point: Tensor, rise: float) -> Climbs | None:
        """Climbs along the next modes of a minimum; None if no known mode is left.

        Args:
            minimum: number of the minimum.
            point: [d], the minimum.
            rise: expected rise of the loss to a saddle; the first steps are to rise by a small fraction of
                it.
        """
        done = self.climbed(minimum)
        hessian, values, vectors = self._of(minimum, point)
        take = list(range(done, min(done + _AT_ONCE, len(values))))
        self._climbed[minimum] = done + _AT_ONCE if take else self.most
        if not take:
            return None
        curvature = values[take].abs().clamp_min(1e-300)
        size = (2 * _UPHILL * rise / curvature).sqrt().clamp_max(self.longest)
        sides = vectors[:, take].T
        moves = size[:, None] * sides
        starts = point + torch.cat([moves, -moves])
        hessians = None if hessian is None else hessian.expand(len(starts), -1, -1)
        return Climbs(starts, torch.cat([sides, sides]), torch.cat([size, size]), hessians)

    def _of(self, minimum: int, point: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """The Hessian [d, d] (None if not dense), its lowest eigenvalues [m] and their eigenvectors [d,
        m]."""
        if minimum not in self._modes:
            if self.dense:
                hessian = self.loss.hessians(point[None])[0]
                values, vectors = torch.linalg.eigh(hessian)
                self._modes[minimum] = hessian, values[: self.most], vectors[:, : self.most]
            else:
                draw = generator(self.seed, "modes", minimum)
                first = torch.randn(len(point), generator=draw, dtype=torch.float64).to(point)
                pairs = lowest_eigenpairs(
                    lambda vector: self.loss.products(point[None], vector[None])[0],
                    first,
                    min(self.most, _AT_ONCE),
                    tolerance=_ACCURACY,
                    max_products=_PRODUCTS,
                )
                self._modes[minimum] = None, pairs.values.to(point), pairs.vectors.T
        return self._modes[minimum]
