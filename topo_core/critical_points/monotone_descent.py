"""Descents from many points at once that keep every step: polylines along which the loss decreases.

Each descent is L-BFGS (Liu & Nocedal 1989) with a trust radius. Its initial inverse Hessian may be given, for
example that of the saddle where the descent begins, and is computed anew after some steps. A step is taken
only where the loss falls, at its end and at points between. So a polyline leads to a minimum, and is nowhere
higher than its first point as far as it was sampled.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from topo_core.critical_points.lbfgs import inverse_hessian_times
from topo_core.critical_points.scaled_loss import ScaledLoss

Inverse = Callable[[Tensor, Tensor], Tensor]
"""Of rows i [m] and vectors [m, d]: an approximate inverse Hessian at descent i times the vector."""

_MEMORY = 30  # pairs of L-BFGS
_GROW, _SHRINK = 2.0, 0.35  # factors of the trust radius
_ARMIJO = 1e-4  # part of the predicted fall that a step must bring
_GOOD = 0.3  # part of it from which the radius may grow
_PARTS = (0.25, 0.5, 0.75)  # of a step, where its loss is evaluated as well
_ROUNDING = 4  # units in the last place by which losses differ for rounding alone
_FAILED = 1e-12  # trust radius below which a descent has failed, as a part of the longest step


@dataclass
class Descents:
    """Where k descents ended.

    Attributes:
        points: [k, d].
        losses: [k] float64.
        gradients: [k, d].
        polylines: of each, [m, d], from its start to its end.
        converged: [k] bool, whether the fall that was left is below the tolerance, or below rounding.
    """

    points: Tensor
    losses: Tensor
    gradients: Tensor
    polylines: list[Tensor]
    converged: Tensor


def descend_together(
    loss: ScaledLoss,
    points: Tensor,
    *,
    radius: Tensor,
    longest: float,
    tolerance: float,
    steps: int,
    inverse: Inverse | None = None,
    refresh: int | None = None,
) -> Descents:
    """Descents from ``points`` [k, d].

    Args:
        loss: the loss.
        points: starts.
        radius: [k], longest first steps.
        longest: longest step of all.
        tolerance: predicted fall below which a descent has converged, a difference of losses.
        steps: at most.
        inverse: approximate inverse Hessians at the starts; None for a multiple of the identity.
        refresh: steps after which exact Hessians replace them, again and again; None for never.
    """
    run = _Run(loss, points, radius, longest, inverse)
    for step in range(steps):
        if refresh is not None and (step + 1) % refresh == 0:
            run.refresh()
        run.stop(tolerance)
        if len(run.alive) == 0:
            break
        run.step()
    return run.result()


class _Run:
    """The descents that go on, their memory, and the results of those that have ended."""

    def __init__(
        self,
        loss: ScaledLoss,
        points: Tensor,
        radius: Tensor,
        longest: float,
        inverse: Inverse | None,
    ) -> None:
        self.loss, self.longest, self.inverse = loss, longest, inverse
        self.x, self.radius = points.clone(), radius.clone()
        self.f, self.g = loss.gradients(self.x)
        self.alive = torch.arange(len(points), device=points.device)
        self.frames: tuple[Tensor, Tensor] | None = None
        self.moves, self.changes = list[Tensor](), list[Tensor]()
        self.trails = [[row] for row in self.x]
        self.points, self.losses, self.gradients = self.x.clone(), self.f.clone(), self.g.clone()
        self.converged = torch.zeros_like(self.f, dtype=torch.bool)

    def result(self) -> Descents:
        self._store(torch.ones_like(self.alive, dtype=torch.bool))
        polylines = [torch.stack(trail) for trail in self.trails]
        return Descents(self.points, self.losses, self.gradients, polylines, self.converged)

    def refresh(self) -> None:
        """Exact Hessians where the descents are; what L-BFGS remembers is dropped."""
        hessians = self.loss.hessians(self.x)
        fine = hessians.isfinite().flatten(1).all(1)
        self.radius = torch.where(fine, self.radius, 0.0)  # these descents have failed
        values, vectors = torch.linalg.eigh(torch.where(fine[:, None, None], hessians, 0.0))
        self.frames, self.moves, self.changes = (values, vectors), [], []

    def stop(self, tolerance: float) -> None:
        """Find the next steps; take out the descents that have converged or failed."""
        self.s = -self._times_inverse(self.g)
        self.slope = (self.g * self.s).sum(1)
        uphill = ~(self.slope < 0)
        if bool(uphill.any()):
            self.s = torch.where(uphill[:, None], -self.g, self.s)
            self.slope = torch.where(uphill, -(self.g * self.g).sum(1), self.slope)
        rounding = torch.finfo(self.x.dtype).eps * self.f.abs()
        self.noise = _ROUNDING * rounding
        done = -self.slope <= (0.01 * rounding).clamp_min(tolerance)
        short = self.radius <= _FAILED * self.longest
        done |= short & (-self.slope <= self.noise)
        failed = ~self.f.isfinite() | ~self.g.isfinite().all(1) | short
        ended = done | failed
        if bool(ended.any()):
            self._store(ended)
            self.converged[self.alive[done & self.f.isfinite()]] = True
            self._keep(~ended)

    def step(self) -> None:
        """One step of every descent, where the loss falls along it."""
        size = self.s.norm(dim=1)
        cut = (self.radius / size).clamp_max(1.0)
        s, slope, size = self.s * cut[:, None], self.slope * cut, size * cut
        f, g = self.loss.gradients(self.x + s)
        between = torch.cat([self.x + part * s for part in _PARTS])
        highest = self.loss.losses(between).reshape(len(_PARTS), -1).amax(0)
        fall, change, slope_there = self.f - f, g - self.g, (g * s).sum(1)
        enough = fall >= -_ARMIJO * slope
        # Near the end the fall is lost in rounding, and the slope says whether the step is good.
        enough |= (fall.abs() <= self.noise) & (slope_there.abs() <= 0.9 * slope.abs())
        fine = f.isfinite() & g.isfinite().all(1)
        accept = fine & enough & (highest <= self.f + self.noise)
        good = (slope_there <= _GOOD * slope.abs()) & (fall >= -_GOOD * slope)
        grown = torch.where(
            good & (cut < 1), (_GROW * self.radius).clamp_max(self.longest), self.radius
        )
        self.radius = torch.where(accept, grown, _SHRINK * torch.minimum(self.radius, size))
        curved = (s * change).sum(1) > 1e-10 * size * change.norm(dim=1)
        kept = (accept & curved)[:, None]
        self.moves = [*self.moves, torch.where(kept, s, 0.0)][-_MEMORY:]
        self.changes = [*self.changes, torch.where(kept, change, 0.0)][-_MEMORY:]
        self.x = torch.where(accept[:, None], self.x + s, self.x)
        self.f, self.g = torch.where(accept, f, self.f), torch.where(accept[:, None], g, self.g)
        for i in torch.nonzero(accept).flatten().tolist():
            self.trails[int(self.alive[i])].append(self.x[i])

    def _times_inverse(self, rows: Tensor) -> Tensor:
        """Approximate inverse Hessians times ``rows`` [k, d]."""
        return inverse_hessian_times(self.moves, self.changes, rows, self._first_inverse())

    def _first_inverse(self) -> Callable[[Tensor], Tensor] | None:
        if self.frames is not None:
            return partial(
                inverse_of(*self.frames), torch.arange(len(self.x), device=self.x.device)
            )
        return None if self.inverse is None else partial(self.inverse, self.alive)

    def _store(self, which: Tensor) -> None:
        rows = self.alive[which]
        self.points[rows], self.losses[rows], self.gradients[rows] = (
            self.x[which],
            self.f[which],
            self.g[which],
        )

    def _keep(self, go: Tensor) -> None:
        self.x, self.f, self.g, self.radius = self.x[go], self.f[go], self.g[go], self.radius[go]
        self.alive, self.s, self.slope = self.alive[go], self.s[go], self.slope[go]
        self.noise = self.noise[go]
        self.moves = [rows[go] for rows in self.moves]
        self.changes = [rows[go] for rows in self.changes]
        if self.frames is not None:
            self.frames = self.frames[0][go], self.frames[1][go]


def inverse_of(values: Tensor, vectors: Tensor) -> Inverse:
    """The inverse of the modulus of Hessians with eigenvalues [k, d] and eigenvectors [k, d, d]."""
    size = values.abs().clamp_min(1e-10 * values.abs().amax(1, keepdim=True)).clamp_min(1e-300)

    def inverse(rows: Tensor, right: Tensor) -> Tensor:
        parts = (vectors[rows].mT @ right[:, :, None])[:, :, 0] / size[rows]
        result: Tensor = (vectors[rows] @ parts[:, :, None])[:, :, 0]
        return result

    return inverse
