"""From many starts at once to saddles of index 1: eigenvector following with dense Hessians.

Each step goes up along one eigenvector of the Hessian and down along all others, the step of a Newton method
on the modulus of the eigenvalues, cut to a trust radius (Cerjan & Miller 1981; Wales 1994). The eigenvector
that is followed is at first the one closest to a given direction (the tangent of a path, a soft mode of a
minimum), then the one closest to its predecessor. Between two exact Hessians the matrix is updated from
gradients by Bofill's formula (Bofill 1994), so a step costs one gradient. An exact Hessian proves the index
where a search ends.

Meant for dimensions where d products and an eigendecomposition are cheap; ``krylov_following`` is for others.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.critical_points.scaled_loss import ScaledLoss

_GROW, _SHRINK = 2.0, 0.4  # factors of the trust radius
_GOOD, _POOR, _BAD = 0.5, 1.0, 2.0
_SMALLEST = 1e-7  # trust radius below which a search has failed, as a fraction of the first
_REFRESH = 3  # least steps between exact Hessians
_POLISH = 4  # exact Newton steps at the end, at most


@dataclass
class Followed:
    """Where k searches ended, in the coordinates of the ``ScaledLoss``.

    Attributes:
        points: [k, d].
        losses: [k] float64.
        gradients: [k, d].
        decrements: [k], ½ gᵀ|H|⁻¹g: the loss that a Newton step could still change.
        values: eigenvalues [k, d] of the exact Hessian at ``points``, increasing; NaN where none was
            evaluated.
        vectors: [k, d, d], their eigenvectors in columns.
        converged: [k] bool, whether the gradient vanishes within the tolerance.
        steps: taken by the longest search.
    """

    points: Tensor
    losses: Tensor
    gradients: Tensor
    decrements: Tensor
    values: Tensor
    vectors: Tensor
    converged: Tensor
    steps: int

    def keep(self, alive: Tensor, ended: Tensor, x: Tensor, f: Tensor, g: Tensor) -> None:
        """Store where the searches ``alive`` [m] are that have ``ended`` [m]."""
        rows = alive[ended]
        self.points[rows], self.losses[rows], self.gradients[rows] = x[ended], f[ended], g[ended]


def none_found(points: Tensor, values: int) -> Followed:
    """The result before searches from ``points`` [k, d] begin, with room for ``values`` eigenpairs each."""
    count, width = points.shape
    return Followed(
        points=points.clone(),
        losses=points.new_full((count,), float("nan"), dtype=torch.float64),
        gradients=torch.full_like(points, float("nan")),
        decrements=points.new_full((count,), float("inf")),
        values=points.new_full((count, values), float("nan")),
        vectors=points.new_full((count, width, values), float("nan")),
        converged=torch.zeros(count, dtype=torch.bool, device=points.device),
        steps=0,
    )


def follow(
    loss: ScaledLoss,
    points: Tensor,
    directions: Tensor,
    *,
    radius: Tensor,
    longest: float,
    tolerance: float,
    steps: int = 60,
    ceiling: float = float("inf"),
    floor: float = float("-inf"),
    reach: float = float("inf"),
    hessians: Tensor | None = None,
    refresh: int | None = None,
) -> Followed:
    """Searches for saddles from ``points`` [k, d], each up along its row of ``directions`` [k, d] first.

    Args:
        loss: in coordinates in which a length means about the same in every direction.
        points: starts.
        directions: of any length above 0.
        radius: [k], first trust radii.
        longest: largest trust radius.
        tolerance: of the decrement, a difference of losses.
        steps: at most.
        ceiling: a search higher than this has failed.
        floor: a search lower than this has failed.
        reach: a search further than this from its start has failed.
        hessians: [k, d, d] at ``points``, if known.
        refresh: steps between exact Hessians; None for a quarter of the dimension, three at least.
    """
    count, width = points.shape
    out = none_found(points, width)
    if count == 0:
        return out
    x = points.clone()
    f, g = loss.gradients(x)
    h = loss.hessians(x) if hessians is None else hessians.clone()
    v = directions / directions.norm(dim=1, keepdim=True)
    refresh = max(_REFRESH, width // 4) if refresh is None else refresh
    r, smallest = radius.clone(), _SMALLEST * radius.min()
    age = torch.zeros(count, dtype=torch.long, device=x.device)
    alive = torch.arange(count, device=x.device)
    begun = x.clone()
    for step in range(steps):
        fine = f.isfinite() & g.isfinite().all(1) & h.isfinite().all(2).all(1)
        fine &= (f <= ceiling) & (f >= floor) & ((x - begun).norm(dim=1) <= reach) & (r > smallest)
        values, vectors = torch.linalg.eigh(torch.where(fine[:, None, None], h, 0.0))
        parts = (vectors.mT @ g[:, :, None])[:, :, 0]
        size = values.abs().clamp_min(1e-12 * values.abs().amax(1, keepdim=True)).clamp_min(1e-300)
        decrement = 0.5 * (parts.square() / size).sum(1)
        close = fine & (decrement <= tolerance)
        go = fine & ~close
        if not bool(go.all()):
            out.keep(alive, ~go, x, f, g)
            out.decrements[alive[close]] = decrement[close]
            out.converged[alive[close]] = True
            x, f, g, h, v, r, age, alive, begun = (
                rows[go] for rows in (x, f, g, h, v, r, age, alive, begun)
            )
            values, vectors, parts, size = (rows[go] for rows in (values, vectors, parts, size))
        if len(alive) == 0:
            break
        out.steps = step + 1
        overlap = (vectors.mT @ v[:, :, None])[:, :, 0].abs()
        mode = overlap.argmax(1)
        # Once the lowest mode is the only negative one, it is the one to climb.
        only = (values[:, 0] < 0) & (values[:, 1] > 0) if width > 1 else values[:, 0] < 0
        mode = torch.where(only, 0, mode)
        rows = torch.arange(len(x), device=x.device)
        v = vectors[rows, :, mode]
        sign = torch.full_like(parts, -1.0)
        sign[rows, mode] = 1.0
        weight = damped_weights(parts, size, r)
        coefficients = sign * parts * weight
        s = (vectors @ coefficients[:, :, None])[:, :, 0]
        hs = (h @ s[:, :, None])[:, :, 0]
        moved = x + s
        f_new, g_new = loss.gradients(moved)
        y = g_new - g
        size_s = s.norm(dim=1)
        # The error of the predicted gradient, measured as the loss measures it: stiff directions are
        # corrected by the next step at no cost.
        missed = _length(vectors, y - hs, weight)
        expected = torch.maximum(_length(vectors, hs, weight), 0.3 * _length(vectors, g, weight))
        error = missed / expected.clamp_min(1e-300)
        fine = f_new.isfinite() & g_new.isfinite().all(1)
        r, accept = new_radius(error, fine, size_s, r, longest)
        h = _updated(h, s, y, hs)
        x = torch.where(accept[:, None], moved, x)
        f, g = torch.where(accept, f_new, f), torch.where(accept[:, None], g_new, g)
        age = age + 1
        stale = (age >= refresh) | ((error > _BAD) & (age > 2))
        if bool(stale.any()):
            h[stale] = loss.hessians(x[stale])
            age[stale] = 0
    out.keep(alive, torch.ones_like(alive, dtype=torch.bool), x, f, g)
    _polish(loss, out, tolerance)
    return out


def _length(vectors: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
    """Lengths [k] of ``rows`` [k, d]: squared components along ``vectors`` times ``weight`` [k, d]."""
    parts = (vectors.mT @ rows[:, :, None])[:, :, 0]
    return (parts.square() * weight).sum(1).sqrt()


def new_radius(
    error: Tensor, fine: Tensor, size: Tensor, radius: Tensor, longest: float
) -> tuple[Tensor, Tensor]:
    """Trust radii [k] after steps of length ``size`` whose model had an ``error``, and which to take."""
    accept = (error <= _BAD) & fine
    grown = torch.where(size >= 0.9 * radius, (_GROW * radius).clamp_max(longest), radius)
    radius = torch.where(error <= _GOOD, grown, radius)
    poor = ~(error <= _POOR) | ~fine
    return torch.where(poor, _SHRINK * torch.minimum(radius, size), radius), accept


def damped_weights(parts: Tensor, size: Tensor, radius: Tensor) -> Tensor:
    """Weights 1 / (size + μ) [k, d], with the smallest μ ≥ 0 that keeps each step within ``radius`` [k]."""
    low = torch.zeros_like(radius)
    plain = 1 / size
    over = (parts * plain).norm(dim=1) > radius
    if not bool(over.any()):
        return plain
    high = parts.norm(dim=1) / radius  # with this μ the step is short enough
    for _ in range(30):
        middle = 0.5 * (low + high)
        long = (parts / (size + middle[:, None])).norm(dim=1) > radius
        low, high = torch.where(long, middle, low), torch.where(long, high, middle)
    return torch.where(over[:, None], 1 / (size + high[:, None]), plain)


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


def _polish(loss: ScaledLoss, out: Followed, tolerance: float) -> None:
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
        parts = (vectors.mT @ g[:, :, None])[:, :, 0]
        size = values.abs().clamp_min(1e-12 * values.abs().amax(1, keepdim=True)).clamp_min(1e-300)
        out.values[index], out.vectors[index] = values, vectors
        out.decrements[index] = 0.5 * (parts.square() / size).sum(1)
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
