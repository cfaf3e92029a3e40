"""A loss with weight decay, which as a part of a loss is a ridge.

A path with ``l2`` descends on this loss; its heights do not include the decay. The ridge continuation
(``topo_core.paths.starts.ridge_continuation``) searches on it and reduces the ridge to none.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.objectives.curvature import full_gradients, hessian_vector_products
from topo_core.objectives.protocol import Objective, Step


@dataclass(frozen=True)
class WithWeightDecay:
    """``objective`` plus ½ l2 ‖θ‖², with exact gradients.

    Attributes:
        objective: the loss, which must have gradients over the whole training set.
        l2: strength of the weight decay.
    """

    objective: Objective
    l2: float

    @property
    def dimension(self) -> int | None:
        """As of the objective."""
        return self.objective.dimension

    @property
    def batches(self) -> int:
        """As of the objective."""
        return self.objective.batches

    def gradients(self, points: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """Losses [k] and gradients [k, d] on the minibatch ``step``."""
        losses, gradients = self.objective.gradients(points, step)
        return losses + self._decay(points).to(losses), gradients + self.l2 * points

    def losses(self, points: Tensor) -> Tensor:
        """Losses [k] (float64)."""
        return self.objective.losses(points) + self._decay(points)

    def full_gradients(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Losses [k] (float64) and gradients [k, d] over the whole training set."""
        losses, gradients = full_gradients(self.objective, points)
        return losses + self._decay(points), gradients + self.l2 * points

    def hessian_vector_products(self, points: Tensor, vectors: Tensor) -> Tensor:
        """Hessians at ``points`` [k, d] times ``vectors`` [k, d]."""
        return hessian_vector_products(self.objective, points, vectors) + self.l2 * vectors

    def _decay(self, points: Tensor) -> Tensor:
        return 0.5 * self.l2 * points.to(torch.float64).square().sum(1)
