"""An exact loss in scaled coordinates, with a count of what was evaluated.

Critical points do not depend on coordinates, but the number of steps to them does. ``ScaledLoss`` evaluates
a loss in coordinates u with θ = origin + basis u: searches that take Euclidean steps in u are preconditioned
in θ. With the basis ``metric_basis`` a loss whose parameters are rescaled, rotated or shifted is searched by
the same steps.

Rows are counted: one for each gradient and each exact Hessian-vector product, two for a product by
differences.
"""

import torch
from torch import Tensor

from topo_core.objectives.curvature import (
    full_gradients,
    has_exact_products,
    hessian_vector_products,
)
from topo_core.objectives.protocol import Objective

_FLOOR = 1e-9  # smallest eigenvalue of a metric, as a fraction of its largest
_ROWS = 512  # rows of a Hessian evaluated in one call


class ScaledLoss:
    """The loss of ``objective`` at θ = ``origin`` + ``basis`` u.

    Args:
        objective: with exact gradients.
        origin: [d].
        basis: [d, d], invertible; None for u = (θ - origin) / ``unit``.
        unit: length in θ of a unit of u, where there is no basis; [d] for one length for each coordinate.
    """

    def __init__(
        self,
        objective: Objective,
        origin: Tensor,
        basis: Tensor | None = None,
        unit: float | Tensor = 1.0,
    ) -> None:
        self.objective, self.origin, self.basis, self.unit = objective, origin, basis, unit
        self.inverse = None if basis is None else torch.linalg.inv(basis)
        self.gradient_rows = 0
        self.product_rows = 0
        self._exact: bool | None = None  # whether products come from second derivatives

    @property
    def rows(self) -> int:
        """Gradients and Hessian-vector products evaluated so far."""
        return self.gradient_rows + self.product_rows

    @property
    def dimension(self) -> int:
        """d."""
        return len(self.origin)

    def theta(self, points: Tensor) -> Tensor:
        """Parameters [..., d] of ``points`` u [..., d]."""
        moves = self.unit * points if self.basis is None else points @ self.basis.T
        parameters: Tensor = self.origin + moves
        return parameters

    def coordinates(self, parameters: Tensor) -> Tensor:
        """u [..., d] of ``parameters`` θ [..., d]."""
        moves = parameters - self.origin
        points: Tensor = moves / self.unit if self.inverse is None else moves @ self.inverse.T
        return points

    def losses(self, points: Tensor) -> Tensor:
        """Losses [k] float64 at u [k, d]; not counted."""
        return self.objective.losses(self.theta(points))

    def gradients(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Losses [k] float64 and gradients with respect to u [k, d]."""
        self.gradient_rows += len(points)
        losses, gradients = full_gradients(self.objective, self.theta(points))
        return losses, self._pulled(gradients)

    def products(self, points: Tensor, vectors: Tensor) -> Tensor:
        """Hessian-vector products [k, d] in u at ``points`` u [k, d]."""
        if self._exact is None:
            self._exact = has_exact_products(self.objective, self.origin)
        self.product_rows += len(points) if self._exact else 2 * len(points)
        pushed = self.unit * vectors if self.basis is None else vectors @ self.basis.T
        return self._pulled(hessian_vector_products(self.objective, self.theta(points), pushed))

    def hessians(self, points: Tensor) -> Tensor:
        """Hessians [k, d, d] with respect to u at ``points`` u [k, d], by d products each."""
        count, width = points.shape
        eye = torch.eye(width, dtype=points.dtype, device=points.device)
        rows = points.repeat_interleave(width, 0)
        vectors = eye.repeat(count, 1)
        parts = [
            self.products(rows[i : i + _ROWS], vectors[i : i + _ROWS])
            for i in range(0, len(rows), _ROWS)
        ]
        hessians = torch.cat(parts).reshape(count, width, width)
        return 0.5 * (hessians + hessians.mT)

    def parameter_gradients(self, gradients: Tensor) -> Tensor:
        """Gradients [..., d] with respect to θ of ``gradients`` [..., d] with respect to u."""
        return gradients / self.unit if self.inverse is None else gradients @ self.inverse

    def _pulled(self, gradients: Tensor) -> Tensor:
        return self.unit * gradients if self.basis is None else gradients @ self.basis


def metric_basis(hessians: Tensor) -> Tensor:
    """A basis [d, d] in which the mean of |H| over ``hessians`` [k, d, d] is the identity.

    The identity where all of them are zero.
    """
    values, vectors = torch.linalg.eigh(hessians)
    mean = ((vectors * values.abs()[:, None, :]) @ vectors.mT).mean(0)
    values, vectors = torch.linalg.eigh(mean)
    if not float(values[-1]) > 0:
        return torch.eye(len(mean), dtype=mean.dtype, device=mean.device)
    basis: Tensor = vectors / values.clamp_min(_FLOOR * float(values[-1])).sqrt()
    return basis
