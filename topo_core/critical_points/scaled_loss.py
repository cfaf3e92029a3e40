"""An exact loss in scaled coordinates, with a count of what was evaluated.

Critical points do not depend on coordinates, but the number of steps to them does. ``ScaledLoss`` evaluates a loss
in coordinates u with θ = origin + basis u: searches that take Euclidean steps in u are preconditioned in θ. With
the basis ``metric_basis`` a loss whose parameters are rescaled, rotated or shifted is searched by the same steps.

Rows are counted: one for each gradient and one for each Hessian-vector product.
"""

import torch
from torch import Tensor

from topo_core.objectives.curvature import full_gradients, hessian_vector_products
from topo_core.objectives.protocol import Objective

_FLOOR = 1e-9  # smallest eigenvalue of a metric, as a fraction of its largest
_ROWS = 512  # rows of a Hessian evaluated in one call


class ScaledLoss:
    """The loss of ``objective`` at θ = ``origin`` + ``basis`` u.

    Args:
        objective: with exact gradients.
        origin: [d].
        basis: [d, d], invertible; None for u = (θ - origin) / ``unit``.
        unit: length in θ of a unit of u, where there is no basis.
    """

    def __init__(
        self, objective: Objective, origin: Tensor, basis: Tensor | None = None, unit: float = 1.0
    ) -> None:
        self.objective, self.origin, self.basis, self.unit = objective, origin, basis, unit
        self.inverse = None if basis is None else torch.linalg.inv(basis)
        self.gradient_rows = 0
        self.product_rows = 0

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
        if self.basis is None:
            return self.origin + self.unit * points
        return self.origin + points @ self.basis.T

    def coordinates(self, parameters: Tensor) -> Tensor:
        """u [..., d] of ``parameters`` θ [..., d]."""
        if self.inverse is None:
            return (parameters - self.origin) / self.unit
        return (parameters - self.origin) @ self.inverse.T

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
        self.product_rows += len(points)
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
        found = torch.cat(parts).reshape(count, width, width)
        return 0.5 * (found + found.mT)

    def _pulled(self, gradients: Tensor) -> Tensor:
        return self.unit * gradients if self.basis is None else gradients @ self.basis


def metric_basis(hessians: Tensor) -> Tensor | None:
    """A basis [d, d] in which the mean of |H| over ``hessians`` [k, d, d] is the identity.

    Each Hessian is divided by its size first, so that a stiff end does not hide a soft one. None where no
    Hessian is finite, or all are zero.
    """
    values, vectors = torch.linalg.eigh(hessians)
    mean = ((vectors * values.abs()[:, None, :]) @ vectors.mT).mean(0)
    values, vectors = torch.linalg.eigh(mean)
    largest = float(values[-1])
    if not largest > 0:
        return None
    basis: Tensor = vectors / values.clamp_min(_FLOOR * largest).sqrt()
    return basis


def geometric_basis(hessians: Tensor) -> Tensor:
    """A basis [d, d] in which the geometric mean of the two |H| of ``hessians`` [2, d, d] is the identity.

    It is a compromise where one is much stiffer than the other: A^½ (A^-½ B A^-½)^½ A^½ for A and B (Bhatia 2007).
    """
    values, vectors = torch.linalg.eigh(hessians)
    size = values.abs().clamp_min(_FLOOR * float(values.abs().max()))
    first, second = (vectors * size[:, None, :]) @ vectors.mT
    root, inverse = _power(first, 0.5), _power(first, -0.5)
    mean = root @ _power(inverse @ second @ inverse, 0.5) @ root
    return _power(0.5 * (mean + mean.mT), -0.5)


def _power(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    size = values.clamp_min(1e-15 * float(values[-1])) ** exponent
    power: Tensor = (vectors * size) @ vectors.mT
    return power
