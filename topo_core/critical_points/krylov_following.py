"""Eigenvector following where the Hessian is too large to be taken whole.

The step of ``eigenvector_following`` is made in a Krylov space that begins with two vectors, the direction
that is followed and the gradient: the first finds the mode to climb, the second the Newton step across it.
The space grows until the Newton equations are solved as well as the step deserves (Dembo, Eisenstat &
Steihaug 1982). Where a search ends, the shared Lanczos iteration settles the index.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.critical_points.following import (
    SMALLEST,
    FollowingResult,
    FollowLimits,
    damped_weights,
    empty_result,
    new_radius,
)
from topo_core.critical_points.lanczos import lowest_eigenpairs
from topo_core.critical_points.scaled_loss import ScaledLoss
from topo_core.random_streams import generator

_BLOCKS = 40  # products with two vectors in one step, at most
_ACCURACY = 0.1  # of the Newton equations, a part of the gradient
_PRODUCTS = 300  # of the final Lanczos iteration
_RESOLUTION = 1e-7  # of the largest curvature: an eigenvalue this small has no sign


def follow_in_krylov_spaces(
    loss: ScaledLoss,
    points: Tensor,
    directions: Tensor,
    limits: FollowLimits,
    *,
    radius: Tensor,
    budget: int = 10**9,
) -> FollowingResult:
    """As ``eigenvector_following.follow``, one search after the other, within a ``budget`` of rows.

    ``values`` [k, 2] and ``vectors`` [k, d, 2] are the lowest eigenpairs.
    """
    out = empty_result(points, 2)
    last = loss.rows + budget
    for k in range(len(points)):
        search = _Search(loss, points[k], directions[k], float(radius[k]), limits.longest)
        for step in range(limits.steps):
            if loss.rows >= last or not search.is_alive(limits):
                break
            out.steps = max(out.steps, step + 1)
            search.step()
            if search.decrement <= limits.tolerance:
                search.polish()
                out.decrements[k], out.converged[k] = search.decrement, True
                values, vectors = search.lowest()
                out.values[k, : len(values)] = values[:2].to(out.values)
                out.vectors[k, :, : len(values)] = vectors[:2].T
                break
        out.points[k], out.losses[k], out.gradients[k] = search.x, search.f, search.g
    return out


@dataclass
class _Model:
    """Ritz pairs of the Hessian in a Krylov space, and the gradient's components there."""

    values: Tensor
    vectors: Tensor
    parts: Tensor

    @property
    def size(self) -> Tensor:
        sizes = self.values.abs()
        return sizes.clamp_min(1e-12 * float(sizes.max())).clamp_min(1e-300)

    def mode(self, direction: Tensor) -> int:
        """The mode to climb: the only negative one, else the one closest to ``direction``."""
        if int((self.values < 0).sum()) == 1:
            return int(self.values.argmin())
        return int((self.vectors.T @ direction).abs().argmax())


class _Search:
    """One search: its point, the gradient there, the direction that it follows, and its trust radius."""

    def __init__(
        self, loss: ScaledLoss, x: Tensor, direction: Tensor, radius: float, longest: float
    ) -> None:
        self.loss, self.x, self.begun = loss, x, x
        self.v = direction / direction.norm()
        self.radius, self.first, self.longest = radius, radius, longest
        losses, gradients = loss.gradients(x[None])
        self.f, self.g = losses[0], gradients[0]
        self.decrement = float("inf")

    def is_alive(self, limits: FollowLimits) -> bool:
        fine = bool(self.f.isfinite()) and bool(self.g.isfinite().all())
        near = float((self.x - self.begun).norm()) <= limits.reach
        inside = limits.floor <= float(self.f) <= limits.ceiling
        return fine and near and inside and self.radius > SMALLEST * self.first

    def step(self) -> None:
        """One step, if the loss is as the model says; the trust radius."""
        model = self._model(_ACCURACY)
        if model is None:
            self.radius = 0.0
            return
        self.decrement = 0.5 * float((model.parts.square() / model.size).sum())
        mode = model.mode(self.v)
        self.v = model.vectors[:, mode]
        sign = torch.full_like(model.parts, -1.0)
        sign[mode] = 1.0
        bound = self.x.new_tensor([self.radius])
        weight = damped_weights(model.parts[None], model.size[None], bound)[0]
        coefficients = sign * model.parts * weight
        s = model.vectors @ coefficients
        losses, gradients = self.loss.gradients((self.x + s)[None])
        inside = model.vectors.T @ (gradients[0] - self.g)
        expected = model.values * coefficients
        missed = float(((inside - expected).square() * weight).sum().sqrt())
        scale = max(
            float((expected.square() * weight).sum().sqrt()),
            0.3 * float((model.parts.square() * weight).sum().sqrt()),
        )
        error = self.x.new_tensor([missed / max(scale, 1e-300)])
        fine = losses.isfinite() & gradients.isfinite().all(1)
        radius, accept = new_radius(error, fine, s.norm()[None], bound, self.longest)
        self.radius = float(radius[0])
        if bool(accept[0]):
            self.x, self.f, self.g = self.x + s, losses[0], gradients[0]

    def polish(self) -> None:
        """Newton steps, as long as the gradient gets much smaller."""
        for _ in range(4):
            model = self._model(1e-4)
            if model is None:
                return
            signed = torch.where(model.values < 0, -model.size, model.size)
            s = -model.vectors @ (model.parts / signed)
            losses, gradients = self.loss.gradients((self.x + s)[None])
            if not float(gradients[0].norm()) < 0.5 * float(self.g.norm()):
                return
            self.x, self.f, self.g = self.x + s, losses[0], gradients[0]
            self.decrement = 0.5 * float((model.parts.square() / model.size).sum())

    def lowest(self) -> tuple[Tensor, Tensor]:
        """The two lowest eigenpairs: values [2], vectors [2, d]."""
        draw = generator(0, "index of a saddle")
        start = torch.randn(len(self.x), generator=draw, dtype=torch.float64).to(self.x)
        pairs = lowest_eigenpairs(
            lambda vector: self.loss.products(self.x[None], vector[None])[0],
            self.v + start / start.norm(),
            2,
            sign_above=_RESOLUTION,
            max_products=_PRODUCTS,
        )
        values = torch.where(
            pairs.residuals < pairs.values.abs(),
            pairs.values,
            torch.full_like(pairs.values, torch.nan),
        )
        return values, pairs.vectors

    def _model(self, accuracy: float) -> _Model | None:
        """Ritz pairs in the block Krylov space of the direction and the gradient."""
        basis, images = list[Tensor](), list[Tensor]()
        block = _orthonormal([self.v, self.g], basis)
        for size in range(_BLOCKS):
            basis += block
            rows = self.loss.products(self.x.expand(len(block), -1), torch.stack(block))
            if not bool(rows.isfinite().all()):
                return None
            images += list(rows)
            block = _orthonormal(list(rows), basis)
            frame, image = torch.stack(basis, 1), torch.stack(images, 1)
            small = frame.T @ image
            values, weights = torch.linalg.eigh(0.5 * (small + small.T))
            vectors = frame @ weights
            model = _Model(values, vectors, vectors.T @ self.g)
            if not block:
                break
            if size >= 2:
                newton = weights @ (model.parts / model.size)
                left = image @ newton - frame @ (small @ newton)
                if float(left.norm()) <= accuracy * float(self.g.norm()):
                    break
        return model


def _orthonormal(rows: list[Tensor], basis: list[Tensor]) -> list[Tensor]:
    """``rows`` made orthonormal, and orthogonal to ``basis``; without those that have nothing left."""
    kept = list[Tensor]()
    for row in rows:
        rest = row
        for _ in range(2):
            for vector in (*basis, *kept):
                rest = rest - (vector @ rest) * vector
        length = float(rest.norm())
        if length > 1e-8 * max(float(row.norm()), 1e-300):
            kept.append(rest / length)
    return kept
