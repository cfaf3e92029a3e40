"""Eigenvector following in dimensions in which the whole Hessian is too expensive.

The step of ``eigenvector_following`` is made in a Krylov space that begins with two vectors, the direction
that is followed and the gradient: the first finds the mode to climb, the second the Newton step across it.
The space grows until the equations of the step that is taken, the damped one inside the trust region, are
solved to an accuracy that increases near the saddle (Dembo, Eisenstat & Steihaug 1982). Where a search ends,
the shared Lanczos iteration determines the index.
"""

import math

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

_PRODUCTS_OF_A_STEP = 80  # at most
# Parts of the gradient to which the equations of a step are solved: far from the saddle, near it, and for the
# last steps.
_ACCURACY, _FINEST, _FINEST_POLISH = 0.1, 1e-3, 1e-4
_KNOWN = 0.1  # residual of the mode, a part of its curvature, below which it is not made more exact
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
    spectrum: bool = True,
) -> FollowingResult:
    """As ``eigenvector_following.follow``, one search after the other, within a ``budget`` of rows.

    ``values`` [k, 2] and ``vectors`` [k, d, 2] are the lowest eigenpairs. Without ``spectrum`` only the first
    vector is known, the direction that was climbed last; the others are NaN.
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
                out.vectors[k, :, 0] = search.v
                if not spectrum:
                    break
                values, vectors = search.lowest()
                out.values[k, : len(values)] = values[:2].to(out.values)
                out.vectors[k, :, : len(values)] = vectors[:2].T
                break
        out.points[k], out.losses[k], out.gradients[k] = search.x, search.f, search.g
    return out


class _Model:
    """Ritz pairs of the Hessian in a space: values [m], vectors [d, m], the gradient's components [m] there.

    The mode that climbs is the only negative one, else the one closest to ``direction`` [d].
    """

    def __init__(self, values: Tensor, vectors: Tensor, parts: Tensor, direction: Tensor) -> None:
        self.values, self.vectors, self.parts = values, vectors, parts
        sizes = values.abs()
        self.size = sizes.clamp_min(1e-12 * float(sizes.max())).clamp_min(1e-300)
        only = int((values < 0).sum()) == 1
        self.mode = int(values.argmin() if only else (vectors.T @ direction).abs().argmax())

    @property
    def decrement(self) -> float:
        """½ gᵀ|H|⁻¹g: the loss that a Newton step could still change."""
        return 0.5 * float((self.parts.square() / self.size).sum())

    def step(self, radius: float) -> tuple[Tensor, Tensor]:
        """The components [m] of the step, up along the mode and down along all others, and their weights."""
        sign = torch.full_like(self.parts, -1.0)
        sign[self.mode] = 1.0
        bound = self.parts.new_tensor([radius])
        weight = damped_weights(self.parts[None], self.size[None], bound)[0]
        return sign * self.parts * weight, weight


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
        self.first_norm = float(self.g.norm())
        self.decrement = float("inf")

    def is_alive(self, limits: FollowLimits) -> bool:
        fine = bool(self.f.isfinite()) and bool(self.g.isfinite().all())
        near = float((self.x - self.begun).norm()) <= limits.reach
        inside = limits.floor <= float(self.f) <= limits.ceiling
        return fine and near and inside and self.radius > SMALLEST * self.first

    def step(self) -> None:
        """One step, which is taken if the loss changes as the model predicts; update the trust radius."""
        # The nearer the search is, the more of the Newton step is worth its price.
        relative = float(self.g.norm()) / max(self.first_norm, 1e-300)
        model = self._model(min(_ACCURACY, max(_FINEST, relative**0.5)), self.radius)
        if model is None:
            self.radius = 0.0
            return
        self.decrement = model.decrement
        self.v = model.vectors[:, model.mode]
        coefficients, weight = model.step(self.radius)
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
        bound = self.x.new_tensor([self.radius])
        radius, accept = new_radius(error, fine, s.norm()[None], bound, self.longest)
        self.radius = float(radius[0])
        if bool(accept[0]):
            self.x, self.f, self.g = self.x + s, losses[0], gradients[0]

    def polish(self) -> None:
        """Newton steps, as long as the gradient gets much smaller."""
        for _ in range(4):
            model = self._model(_FINEST_POLISH, math.inf)
            if model is None:
                return
            signed = torch.where(model.values < 0, -model.size, model.size)
            s = -model.vectors @ (model.parts / signed)
            losses, gradients = self.loss.gradients((self.x + s)[None])
            if not float(gradients[0].norm()) < 0.5 * float(self.g.norm()):
                return
            self.x, self.f, self.g = self.x + s, losses[0], gradients[0]
            self.v, self.decrement = model.vectors[:, model.mode], model.decrement

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

    def _model(self, accuracy: float, radius: float) -> _Model | None:
        """Ritz pairs in a space that grows from the direction and the gradient.

        It grows by the part of the step's equations that is not solved yet, and by that of the mode's
        eigenvalue equation, until the former is below ``accuracy`` times the gradient.
        """
        space = _Space(self.loss, self.x)
        block = [self.v, self.g]
        norm = float(self.g.norm())
        while True:
            grown = space.grow(block)
            if grown is None:
                return None
            model = space.model(self.v, self.g)
            coefficients, _ = model.step(radius)
            step_left = space.outside(model, coefficients)
            mode_left = space.outside(model, torch.eye(len(model.values)).to(self.x)[model.mode])
            solved = float(step_left.norm()) <= accuracy * norm
            if not grown or space.size >= _PRODUCTS_OF_A_STEP or (solved and space.size > 4):
                return model
            known = float(mode_left.norm()) <= _KNOWN * abs(float(model.values[model.mode]))
            block = [step_left] if known else [step_left, mode_left]


class _Space:
    """An orthonormal basis, its images under the Hessian at ``x`` [d], and the Hessian within it."""

    def __init__(self, loss: ScaledLoss, x: Tensor) -> None:
        self.loss, self.x, self.size = loss, x, 0
        room = min(len(x), _PRODUCTS_OF_A_STEP + 2)
        self.basis, self.images = x.new_zeros(room, len(x)), x.new_zeros(room, len(x))
        self.small = x.new_zeros(room, room)

    def grow(self, rows: list[Tensor]) -> int | None:
        """Add what ``rows`` [d] have outside of the basis; how many vectors that is, None if their images are
        not finite."""
        first = self.size
        for row in rows:
            rest = row
            for _ in range(2):
                known = self.basis[: self.size]
                rest = rest - (known @ rest) @ known
            length = float(rest.norm())
            if self.size < len(self.basis) and length > 1e-8 * max(float(row.norm()), 1e-300):
                self.basis[self.size] = rest / length
                self.size += 1
        new = slice(first, self.size)
        if self.size == first:
            return 0
        images = self.loss.products(self.x.expand(self.size - first, -1), self.basis[new])
        if not bool(images.isfinite().all()):
            return None
        self.images[new] = images
        inside = self.basis[: self.size] @ images.T
        self.small[: self.size, new] = inside
        self.small[new, : self.size] = inside.T
        return self.size - first

    def model(self, direction: Tensor, gradient: Tensor) -> _Model:
        """The Ritz pairs, and the mode that climbs."""
        small = self.small[: self.size, : self.size]
        values, self._weights = torch.linalg.eigh(0.5 * (small + small.T))
        vectors = self.basis[: self.size].T @ self._weights
        return _Model(values, vectors, vectors.T @ gradient, direction)

    def outside(self, model: _Model, coefficients: Tensor) -> Tensor:
        """The part outside of the space of the image [d] of a combination of Ritz vectors."""
        inner = self._weights @ coefficients
        small = self.small[: self.size, : self.size] @ inner
        rest: Tensor = inner @ self.images[: self.size] - small @ self.basis[: self.size]
        return rest
