"""Descents from both ends of a path under increasing ridges ½ λ ‖θ‖²."""

import math

import torch
from torch import Tensor

from topo_core.critical_points.monotone_descent import descend_together
from topo_core.critical_points.scaled_loss import ScaledLoss, metric_basis
from topo_core.objectives.protocol import Objective
from topo_core.objectives.weight_decay import WithWeightDecay
from topo_core.paths.starts.route_settings import Effort

_PART = 0.1  # of the depth: the value of the ridge at a point before its descent
_GROWTH = math.sqrt(10)  # smallest factor of λ from one descent to the next
_MERGED = 1e-6  # of the norm of the ends: distance up to which two points count as one
_TOLERANCE = 1e-9  # of the depth: predicted fall at which a descent ends
_STEPS = 300  # largest number of steps of a descent
_REFRESH = 8  # steps between exact Hessians in a descent


class InwardDescents:
    """Descents from both ends, each from where the one before ended, under a larger λ.

    Each λ is such that the ridge at the points is a given fraction of the depth. So in each descent the loss
    without ridge rises by at most that amount.

    Args:
        objective: the loss without ridge.
        ends: [2, d].
        depth: loss at θ = 0 above the higher end.

    Attributes:
        ridges: λ of each descent, increasing.
        effort: the gradients and products that the descents took.
    """

    def __init__(self, objective: Objective, ends: Tensor, depth: float) -> None:
        self.objective, self.ends, self.depth = objective, ends, depth
        self.ridges = list[float]()
        self.effort = Effort()
        self._trails = [(ends[:1], ends[1:])]  # of each number of descents, from the ends

    def run(self) -> None:
        """Descend with increasing ridges, until λ no longer grows by ``_GROWTH``."""
        while True:
            size = max(float(trail[-1].square().sum()) for trail in self._trails[-1])
            ridge = 2 * _PART * self.depth / max(size, 1e-300)
            last = self.ridges[-1] if self.ridges else 0.0
            if ridge < _GROWTH * last or not math.isfinite(ridge):
                return
            one, other = self.under(ridge)
            self.ridges.append(ridge)
            self._trails.append((one, other))

    def under(self, ridge: float) -> tuple[Tensor, Tensor]:
        """Polylines [m, d] from both ends to minima of the loss with ``ridge``, over those of smaller λ."""
        number = sum(smaller <= ridge for smaller in self.ridges)
        one, other = (
            torch.cat([trail, self._descent(trail[-1], ridge)[1:]])
            for trail in self._trails[number]
        )
        return one, other

    def are_one(self, point: Tensor, other: Tensor) -> bool:
        """Whether two minima [d] are the same point."""
        return float((point - other).norm()) <= _MERGED * float(self.ends.norm())

    def _descent(self, point: Tensor, ridge: float) -> Tensor:
        """The polyline [m, d] of a descent from ``point`` to a minimum of the loss with ``ridge``."""
        ridged = WithWeightDecay(self.objective, ridge)
        plain = ScaledLoss(ridged, point)
        here = torch.zeros_like(point)[None]
        hessians = plain.hessians(here)
        self.effort += Effort(plain.gradient_rows, plain.product_rows)
        if not bool(hessians.isfinite().all()):
            return point[None]
        loss = ScaledLoss(ridged, point, metric_basis(hessians))
        down = descend_together(
            loss,
            here,
            radius=point.new_full((1,), 0.1 * math.sqrt(self.depth)),
            longest=1e3 * math.sqrt(self.depth),
            tolerance=_TOLERANCE * self.depth,
            steps=_STEPS,
            refresh=_REFRESH,
        )
        self.effort += Effort(loss.gradient_rows, loss.product_rows)
        return loss.theta(down.polylines[0])
