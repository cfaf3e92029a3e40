"""A loss with an added ridge ½ λ ‖θ‖²."""

from dataclasses import dataclass

from torch import Tensor

from topo_core.objectives.curvature import full_gradients, hessian_vector_products
from topo_core.objectives.protocol import Objective, Step


@dataclass(frozen=True)
class RidgedObjective:
    """The loss ``objective`` + ½ ``ridge`` ‖θ‖², with exact gradients and Hessian-vector products."""

    objective: Objective
    ridge: float

    @property
    def dimension(self) -> int | None:
        return self.objective.dimension

    @property
    def batches(self) -> int:
        return 1

    def losses(self, points: Tensor) -> Tensor:
        """Losses [k] float64 at ``points`` [k, d]."""
        return self.objective.losses(points) + self._added(points)

    def full_gradients(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Losses [k] float64 and gradients [k, d]."""
        losses, gradients = full_gradients(self.objective, points)
        return losses + self._added(points), gradients + self.ridge * points

    def gradients(self, points: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """As ``full_gradients``, since there are no minibatches."""
        del step
        return self.full_gradients(points)

    def hessian_vector_products(self, points: Tensor, vectors: Tensor) -> Tensor:
        """Products [k, d] of the Hessians at ``points`` [k, d] with ``vectors`` [k, d]."""
        return hessian_vector_products(self.objective, points, vectors) + self.ridge * vectors

    def _added(self, points: Tensor) -> Tensor:
        return 0.5 * self.ridge * points.double().square().sum(1)
