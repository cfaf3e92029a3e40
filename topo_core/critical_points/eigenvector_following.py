"""From many starts at once to saddles of index 1: eigenvector following with dense Hessians.

Each step goes up along one eigenvector of the Hessian and down along all others, the step of a Newton method
on the modulus of the eigenvalues, cut to a trust radius (Cerjan & Miller 1981; Wales 1994). The eigenvector
that is followed is at first the one closest to a given direction (the tangent of a path, a soft mode of a
minimum), then the one closest to its predecessor. Between two exact Hessians the matrix is updated from
gradients by Bofill's formula (Bofill 1994), so a step costs one gradient. An exact Hessian proves the index
where a search ends.

Meant for dimensions where d products and an eigendecomposition are cheap; ``krylov_following`` is for others.
"""

import torch
from torch import Tensor

from topo_core.critical_points.following import (
    BAD,
    SMALLEST,
    FollowingResult,
    FollowLimits,
    damped_weights,
    empty_result,
    new_radius,
)
from topo_core.critical_points.scaled_loss import ScaledLoss

_REFRESH = 3  # least steps between exact Hessians
_POLISH = 4  # exact Newton steps at the end, at most


def follow(
    loss: ScaledLoss,
    points: Tensor,
    directions: Tensor,
    limits: FollowLimits,
    *,
    radius: Tensor,
    hessians: Tensor | None = None,
    refresh: int | None = None,
) -> FollowingResult:
    """Searches for saddles from ``points`` [k, d], each up along its row of ``directions`` [k, d] first.

    Args:
        loss: in coordinates in which a length means about the same in every direction.
        points: starts.
        directions: of any length above 0.
        limits: of all searches.
        radius: [k], first trust radii.
        hessians: [k, d, d] at ``points``, if known.
        refresh: steps between exact Hessians; None for a quarter of the dimension, three at least.
    """
    out = empty_result(points, points.shape[1])
    if len(points) == 0:
        return out
    searches = _Searches(loss, points, directions, radius, hessians)
    refresh = max(_REFRESH, points.shape[1] // 4) if refresh is None else refresh
    for step in range(limits.steps):
        searches.stop(limits, out)
        if len(searches.alive) == 0:
            break
        out.steps = step + 1
        searches.step(limits.longest, refresh)
    searches.store(torch.ones_like(searches.alive, dtype=torch.bool), out)
    _polish(loss, out, limits.tolerance)
    return out


class _Searches:
    """The searches that have not ended: points, Hessians, directions that they follow, trust radii."""

    def __init__(
        self,
        loss: ScaledLoss,
        points: Tensor,
        directions: Tensor,
        radius: Tensor,
        hessians: Tensor | None,
    ) -> None:
        self.loss, self.begun = loss, points.clone()
        self.x = points.clone()
        self.f, self.g = loss.gradients(self.x)
        self.h = loss.hessians(self.x) if hessians is None else hessians.clone()
        self.v = directions / directions.norm(dim=1, keepdim=True)
        self.radius, self.smallest = radius.clone(), SMALLEST * radius.min()
        self.age = torch.zeros(len(points), dtype=torch.long, device=points.device)
        self.alive = torch.arange(len(points), device=points.device)

    def store(self, ended: Tensor, out: FollowingResult) -> None:
        """Store the points of the searches that have ``ended`` [m]."""
        out.keep(self.alive, ended, self.x, self.f, self.g)

    def stop(self, limits: FollowLimits, out: FollowingResult) -> None:
        """Take the spectra of the Hessians; store and remove the searches that have converged or failed."""
        f, g, h = self.f, self.g, self.h
        fine = f.isfinite() & g.isfinite().all(1) & h.isfinite().all(2).all(1)
        fine &= (f <= limits.ceiling) & (f >= limits.floor)
        fine &= ((self.x - self.begun).norm(dim=1) <= limits.reach) & (self.radius > self.smallest)
        self.values, self.vectors = torch.linalg.eigh(torch.where(fine[:, None, None], h, 0.0))
        self.parts, self.size, decrement = _newton(self.values, self.vectors, g)
        close = fine & (decrement <= limits.tolerance)
        go = fine & ~close
        if not bool(go.all()):
            self.store(~go, out)
            out.decrements[self.alive[close]] = decrement[close]
            out.converged[self.alive[close]] = True
            for name in (
                *("x", "f", "g", "h", "v", "radius", "age", "alive", "begun"),
                *("values", "vectors", "parts", "size"),
            ):
                setattr(self, name, getattr(self, name)[go])

    def step(self, longest: float, refresh: int) -> None:
        """One step of every search; it is taken where the model predicts the gradient well enough."""
        s, weight = self._direction()
        hs = (self.h @ s[:, :, None])[:, :, 0]
        moved = self.x + s
        f_new, g_new = self.loss.gradients(moved)
        y = g_new - self.g
        # The error of the predicted gradient, measured as the loss measures it: stiff directions are
        # corrected by the next step at no cost.
        missed = _length(self.vectors, y - hs, weight)
        expected = torch.maximum(
            _length(self.vectors, hs, weight), 0.3 * _length(self.vectors, self.g, weight)
        )
        error = missed / expected.clamp_min(1e-300)
        fine = f_new.isfinite() & g_new.isfinite().all(1)
        self.radius, accept = new_radius(error, fine, s.norm(dim=1), self.radius, longest)
        self.h = _updated(self.h, s, y, hs)
        self.x = torch.where(accept[:, None], moved, self.x)
        self.f = torch.where(accept, f_new, self.f)
        self.g = torch.where(accept[:, None], g_new, self.g)
        self.age = self.age + 1
        stale = (self.age >= refresh) | ((error > BAD) & (self.age > 2))
        if bool(stale.any()):
            self.h[stale] = self.loss.hessians(self.x[stale])
            self.age[stale] = 0

    def _direction(self) -> tuple[Tensor, Tensor]:
        """The steps [m, d], up along the mode that each search follows, and their damped weights [m, d]."""
        values, vectors = self.values, self.vectors
        mode = (vectors.mT @ self.v[:, :, None])[:, :, 0].abs().argmax(1)
        # Once the lowest mode is the only negative one, it is the one to climb.
        only = (values[:, 0] < 0) & (values[:, 1] > 0) if values.shape[1] > 1 else values[:, 0] < 0
        mode = torch.where(only, 0, mode)
        rows = torch.arange(len(self.x), device=self.x.device)
        self.v = vectors[rows, :, mode]
        sign = torch.full_like(self.parts, -1.0)
        sign[rows, mode] = 1.0
        weight = damped_weights(self.parts, self.size, self.radius)
        coefficients = sign * self.parts * weight
        return (vectors @ coefficients[:, :, None])[:, :, 0], weight


def _newton(values: Tensor, vectors: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Components of the gradients [k, d] along the eigenvectors, moduli [k, d] of the eigenvalues, and the
    decrements [k]."""
    parts = (vectors.mT @ gradients[:, :, None])[:, :, 0]
    size = values.abs().clamp_min(1e-12 * values.abs().amax(1, keepdim=True)).clamp_min(1e-300)
    return parts, size, 0.5 * (parts.square() / size).sum(1)


def _length(vectors: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
    """Lengths [k] of ``rows`` [k, d]: squared components along ``vectors`` times ``weight`` [k, d]."""
    parts = (vectors.mT @ rows[:, :, None])[:, :, 0]
    return (parts.square() * weight).sum(1).sqrt()


def _updated(h: Tensor, s: Tensor, y: Tensor, hs: Tensor) -> Tensor:
    """Bofill's update: symmetric rank one and Powell's, in the ratio that the residual suggests."""
    residual = y - hs
    ss, rs, rr = (s * s).sum(1), (residual * s).sum(1), (residual * residual).sum(1)
    usable = (rr * ss > 0) & rr.isfinite()
    ss = torch.where(usable, ss, 1.0)
    phi = torch.where(usable, rs.square() / (rr * ss).clamp_min(1e-300), 0.0)
    residual = torch.where(usable[:, None], residual, 0.0)
    rs = torch.where(usable, rs, 0.0)
    rank_one = residual[:, :, None] * residual[:, None, :]
    rank_one = (
        rank_one * torch.where(rs.abs() > 1e-12 * (rr * ss).sqrt(), phi / rs, 0.0)[:, None, None]
    )
    cross = residual[:, :, None] * s[:, None, :]
    powell = (cross + cross.mT) / ss[:, None, None]
    powell = powell - (rs / ss.square())[:, None, None] * (s[:, :, None] * s[:, None, :])
    return h + rank_one + (1 - phi)[:, None, None] * powell


def _polish(loss: ScaledLoss, out: FollowingResult, tolerance: float) -> None:
    """Exact Newton steps as long as the gradient falls, and the spectrum, of converged searches."""
    index = torch.nonzero(out.converged).flatten()
    for last in [False] * _POLISH + [True]:
        if len(index) == 0:
            return
        x = out.points[index]
        h = loss.hessians(x)
        fine = h.isfinite().all(2).all(1)
        out.converged[index[~fine]] = False
        index, x, h = index[fine], x[fine], h[fine]
        values, vectors = torch.linalg.eigh(h)
        g = out.gradients[index]
        parts, size, decrements = _newton(values, vectors, g)
        out.values[index], out.vectors[index] = values, vectors
        out.decrements[index] = decrements
        out.converged[index] = out.decrements[index] <= tolerance
        kept = out.converged[index]
        if last or not bool(kept.any()):
            return
        index, x, g = index[kept], x[kept], g[kept]
        values, vectors, parts, size = values[kept], vectors[kept], parts[kept], size[kept]
        signed = torch.where(values < 0, -size, size)
        s = -(vectors @ (parts / signed)[:, :, None])[:, :, 0]
        f_new, g_new = loss.gradients(x + s)
        better = g_new.norm(dim=1) < 0.5 * g.norm(dim=1)
        where = index[better]
        out.points[where] = (x + s)[better]
        out.losses[where], out.gradients[where] = f_new[better], g_new[better]
        index = where
