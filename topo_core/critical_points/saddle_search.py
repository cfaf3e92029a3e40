"""Is the peak of a path a saddle? Climb to it, and count the ways down.

The highest point of a polygon is a height that was attained, not a pass. From there a climbing image
(Henkelman, Uberuaga & Jónsson 2000) goes up along one direction and down along all others: the
direction is the path's at first and then the one of lowest curvature, followed as in the dimer
method. Newton steps, with the equations solved by MINRES, take the last digits. Where the gradient
vanishes, Lanczos counts the negative eigenvalues of the Hessian, and a pass has one of them.

That climb is free, and looks for a saddle wherever one is: right for smooth functions, whose peaks are
close to their passes. On a network it wanders off. There the direction of lowest curvature has
little to do with the path (overlaps of 0.04 to 0.15 were seen), and is one of many kinks. With a
``radius`` the search stays between the neighbours of the peak instead: up along the path alone,
down across it, by ``lowered_peak``.

Hessian-vector products are central differences of exact gradients. A network with ReLU has no second
derivatives at its kinks, so what is found is checked for a kink and for a flat top.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.critical_points.peak_descent import lowered_peak
from topo_core.random_streams import generator

Gradients = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Exact losses [k] and gradients [k, d] of points [k, d]."""

_MOVE = 0.3  # longest step of the climb, in spacings
_MODES = 4  # products spent on the direction of lowest curvature in a step
_FLAT = 1e-3  # of the barrier: a smaller fall within one spacing is a flat top
_KINK = 0.5  # a jump of slopes that keeps this part of itself on a tenth of the distance is a kink
_ZERO = 1e-6  # eigenvalues below this fraction of the largest count as zero


@dataclass(frozen=True)
class SaddleSettings:
    """What may be spent.

    Attributes:
        climb: steps of the climbing image, or of the descent across the path.
        polish: Newton steps.
        lanczos: products with the Hessian in the count of its negative eigenvalues, and in each
            Newton step.
        tolerance: a gradient this small, as a fraction of the barrier over the spacing, is zero.
        radius: how far from the peak the search may go, in spacings; None for a free climb.
        difference: of the points between which curvature is measured, in spacings.
    """

    climb: int = 150
    polish: int = 12
    lanczos: int = 40
    tolerance: float = 1e-6
    radius: float | None = None
    difference: float = 1e-4

    def __post_init__(self) -> None:
        for key, least in (("climb", 0), ("polish", 0), ("lanczos", 2)):
            if getattr(self, key) < least:
                raise ValueError(f"{key} is {getattr(self, key)}; it must be {least} or more.")
        for key in ("tolerance", "difference", "radius"):
            value = getattr(self, key)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{key} is {value}; it must be a finite number above 0.")


@dataclass(frozen=True)
class Saddle:
    """What a peak turned out to be.

    Attributes:
        point: [d], where the search ended.
        loss: there.
        peak_loss: at the peak it started from.
        barrier: of the peak above the higher end of the path.
        distance: between the two points.
        peak_gradient_norm: at the peak.
        gradient_norm: at ``point``.
        stationary: whether that is zero within the tolerance.
        negative: negative eigenvalues of the Hessian that Lanczos saw; with fewer products than
            dimensions a lower bound. 1 at a pass.
        eigenvalues: the lowest Ritz values, increasing, at most five.
        direction: [d], unit vector of the lowest one.
        kink: whether slopes jump across ``point``: no Hessian describes it.
        flat: whether the loss does not fall on both sides along ``direction``.
        sunk: whether a search held near the peak went down to the higher end of the path: there is
            no pass here.
        gradient_evaluations: rows whose gradient was evaluated.
    """

    point: Tensor
    loss: float
    peak_loss: float
    barrier: float
    distance: float
    peak_gradient_norm: float
    gradient_norm: float
    stationary: bool
    negative: int
    eigenvalues: tuple[float, ...]
    direction: Tensor
    kink: bool
    flat: bool
    sunk: bool
    gradient_evaluations: int

    @property
    def barrier_left(self) -> float:
        """How much of the barrier is left at ``point``; negative below the higher end."""
        return self.barrier - (self.peak_loss - self.loss)

    @property
    def verdict(self) -> str:
        """In a word: pass, saddle (of a higher index), minimum, sinks, kink, flat or moving."""
        if self.sunk:
            return "sinks"
        if self.kink:
            return "kink"
        if self.flat:
            return "flat"
        if not self.stationary:
            return "moving"
        return {0: "minimum", 1: "pass"}.get(self.negative, "saddle")


def find_saddle(
    gradients: Gradients,
    peak: Tensor,
    tangent: Tensor,
    *,
    spacing: float,
    barrier: float,
    settings: SaddleSettings | None = None,
    seed: int = 0,
) -> Saddle:
    """The stationary point near the peak of a path, and its index.

    Args:
        gradients: exact losses and gradients; float64 is worth its price here.
        peak: [d], the highest place of the path.
        tangent: [d], the direction of the path there, of any length.
        spacing: distance of the path's points there: the length scale of all steps.
        barrier: height of the peak above the higher end: the scale of losses.
        settings: all defaults when None.
        seed: of the first Lanczos vector.

    Raises:
        ValueError: a tangent without length, or scales that are not positive.
    """
    settings = settings or SaddleSettings()
    if not (spacing > 0 and barrier > 0 and float(tangent.norm()) > 0):
        raise ValueError(
            f"the spacing is {spacing}, the barrier {barrier} and the tangent has the length "
            f"{float(tangent.norm())}; a peak inside a path has all three above 0."
        )
    counted = _Counted(gradients, settings.difference * spacing)
    enough = settings.tolerance * barrier / spacing
    along = tangent / tangent.norm()
    peak_loss, peak_gradient = counted(peak)
    if settings.radius is None:
        climbed, along = _climb(counted, peak, along, spacing, enough, settings)
        point = _polished(counted, climbed, spacing, enough, settings)
        loss, gradient = counted(point)
    else:
        reach = settings.radius * spacing
        climbed = lowered_peak(
            counted, peak, along, radius=reach, enough=enough, steps=settings.climb
        )
        point, (loss, gradient) = climbed, counted(climbed)
        if loss > peak_loss - barrier:
            solved = _polished(counted, climbed, spacing, enough, settings)
            there = counted(solved)
            # What Newton's steps have not finished, or where they lead away, is no peak of the path.
            if float(there[1].norm()) <= enough and float((solved - peak).norm()) <= reach:
                point, (loss, gradient) = solved, there
    values, direction = _lowest(counted, point, along, settings.lanczos, seed)
    scale = max(abs(float(values[0])), abs(float(values[-1])), 1e-300)
    norm = float(gradient.norm())
    return Saddle(
        point=point,
        loss=loss,
        peak_loss=peak_loss,
        barrier=barrier,
        distance=float((point - peak).norm()),
        peak_gradient_norm=float(peak_gradient.norm()),
        gradient_norm=norm,
        stationary=norm <= enough,
        negative=int((values < -_ZERO * scale).sum()),
        eigenvalues=tuple(values[:5].tolist()),
        direction=direction,
        kink=_has_kink(counted, point, along, spacing),
        flat=_is_flat(counted, point, along, spacing, barrier),
        sunk=settings.radius is not None and loss <= peak_loss - barrier,
        gradient_evaluations=counted.rows,
    )


class _Counted:
    """Gradients at single points, products with the Hessian, and how many rows they took."""

    def __init__(self, gradients: Gradients, step: float) -> None:
        self._gradients, self._step, self.rows = gradients, step, 0

    def __call__(self, point: Tensor) -> tuple[float, Tensor]:
        losses, gradients = self.batch(point[None])
        return float(losses[0]), gradients[0]

    def batch(self, points: Tensor) -> tuple[Tensor, Tensor]:
        self.rows += len(points)
        return self._gradients(points)

    def product(self, point: Tensor, vector: Tensor) -> Tensor:
        """The Hessian at ``point`` times ``vector``."""
        size = vector.norm()
        if not size > 0:
            return torch.zeros_like(vector)
        move = vector * (self._step / size)
        _, (ahead, behind) = self.batch(torch.stack([point + move, point - move]))
        found: Tensor = (ahead - behind) * (size / (2 * self._step))
        return found


def _climb(
    gradients: _Counted,
    point: Tensor,
    along: Tensor,
    spacing: float,
    enough: float,
    settings: SaddleSettings,
) -> tuple[Tensor, Tensor]:
    """Up along the direction of lowest curvature, down across it."""
    longest = _MOVE * spacing
    step = 0.0
    before: tuple[Tensor, Tensor] | None = None
    for _ in range(settings.climb):
        _, gradient = gradients(point)
        if float(gradient.norm()) <= 100 * enough:
            break
        along, bend = _followed(gradients, point, along)
        slope = float(gradient @ along)
        across = gradient - slope * along
        if before is not None:
            moved, change = point - before[0], across - before[1]
            met, bent = float(moved @ change), float(change @ change)
            step = min(2 * step, met / bent) if met > 0 and bent > 0 else 2 * step
        else:
            step = 0.02 * spacing / max(float(across.norm()), 1e-300)
        down = -step * across
        down *= min(1.0, longest / max(float(down.norm()), 1e-300))
        # Newton's step to the top along one direction where it is concave, else a plain one up.
        up = -slope / bend if bend < 0 else math.copysign(longest, slope)
        up = max(-longest, min(longest, up))
        before = point, across
        point = point + down + up * along
    return point, along


def _followed(gradients: _Counted, point: Tensor, along: Tensor) -> tuple[Tensor, float]:
    """``along`` turned towards the lowest curvature by a short Lanczos, and the curvature."""
    values, vectors = _lanczos(gradients, point, along, _MODES)
    turned = vectors[:, 0]
    return turned * math.copysign(1.0, float(turned @ along)), float(values[0])


def _polished(
    gradients: _Counted, point: Tensor, spacing: float, enough: float, settings: SaddleSettings
) -> Tensor:
    """Newton steps to the stationary point nearby, as long as the gradient gets smaller."""
    _, gradient = gradients(point)
    for _ in range(settings.polish):
        norm = float(gradient.norm())
        if norm <= 1e-3 * enough:
            break
        step = _minres(lambda v: gradients.product(point, v), -gradient, settings.lanczos)  # noqa: B023
        step *= min(1.0, _MOVE * spacing / max(float(step.norm()), 1e-300))
        found = gradients(point + step)[1]
        if not float(found.norm()) < norm:
            step *= 0.25
            found = gradients(point + step)[1]
            if not float(found.norm()) < norm:
                break
        point, gradient = point + step, found
    return point


def _minres(product: Callable[[Tensor], Tensor], right: Tensor, products: int) -> Tensor:
    """The least-squares solution of H x = right in a Krylov space (Paige & Saunders 1975)."""
    size = right.norm()
    basis, images = [right / size], list[Tensor]()
    for _ in range(min(products, len(right))):
        image = product(basis[-1])
        images.append(image)
        rest = image
        for _ in range(2):
            for vector in basis:
                rest = rest - (vector @ rest) * vector
        length = rest.norm()
        if not length > 1e-10 * image.norm():
            break
        basis.append(rest / length)
    columns = torch.stack(images, dim=1)
    # Few columns: a small least-squares problem; directions that the Hessian does not see stay 0.
    weights = torch.linalg.lstsq(
        columns.T @ columns, columns.T @ right[:, None], rcond=1e-12, driver="gelsd"
    ).solution
    step: Tensor = torch.stack(basis[: len(images)], dim=1) @ weights[:, 0]
    return step


def _lanczos(
    gradients: _Counted, point: Tensor, start: Tensor, products: int
) -> tuple[Tensor, Tensor]:
    """Ritz values [k] (increasing) and vectors [d, k] of the Hessian (Lanczos 1950).

    With full reorthogonalisation, so that no value comes twice.
    """
    basis, images = [start / start.norm()], list[Tensor]()
    while True:
        images.append(gradients.product(point, basis[-1]))
        rest = images[-1]
        if len(images) >= min(products, len(start)):
            break
        for _ in range(2):
            for vector in basis:
                rest = rest - (vector @ rest) * vector
        length = rest.norm()
        if not length > 1e-8 * images[-1].norm():
            break
        basis.append(rest / length)
    frame = torch.stack(basis, dim=1)
    small = frame.T @ torch.stack(images, dim=1)
    values, vectors = torch.linalg.eigh(0.5 * (small + small.T))
    return values, frame @ vectors


def _lowest(
    gradients: _Counted, point: Tensor, along: Tensor, products: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Ritz values, and the unit vector of the lowest; from a start with parts in all directions."""
    draw = torch.randn(len(point), generator=generator(seed, "lanczos"), dtype=torch.float64)
    draw = draw.to(point)
    values, vectors = _lanczos(gradients, point, along + draw / draw.norm(), products)
    return values, vectors[:, 0] / vectors[:, 0].norm()


def _has_kink(gradients: _Counted, point: Tensor, along: Tensor, spacing: float) -> bool:
    """Whether the slope along ``along`` jumps at ``point``.

    Where the loss is smooth a change of slope shrinks with the distance over which it is seen.
    """
    jumps = []
    for size in (1e-2 * spacing, 1e-3 * spacing):
        _, (ahead, behind) = gradients.batch(
            torch.stack([point + size * along, point - size * along])
        )
        jumps.append((float((ahead - behind) @ along), float(ahead.norm() + behind.norm())))
    (wide, _), (near, slopes) = jumps
    return abs(near) > _KINK * abs(wide) and abs(near) > 1e-3 * slopes


def _is_flat(
    gradients: _Counted, point: Tensor, along: Tensor, spacing: float, barrier: float
) -> bool:
    """Whether the loss stays within a small part of the barrier on one side or the other."""
    around = torch.stack([point + spacing * along, point, point - spacing * along])
    losses, _ = gradients.batch(around)
    fall = losses[1] - torch.maximum(losses[0], losses[2])
    return bool(fall.abs() < _FLAT * barrier)
