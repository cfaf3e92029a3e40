"""Is the peak of a path a saddle? Climb to a stationary point, and count its negative curvatures.

The highest point of a polygon is a height that was attained, not a pass. From there a climbing image
(Henkelman, Uberuaga & Jónsson 2000) goes up along one direction and down along all others: the
direction is the path's at first and then that of lowest curvature, followed as in the dimer
method. Newton steps, with the equations solved by MINRES, take the last digits. Where the gradient
vanishes, the negative eigenvalues of the Hessian are counted until a sign is settled; a pass has one.

That climb is free, and finds a saddle wherever one is: right for smooth functions, whose peaks are
close to their passes. On a network it wanders off: there the direction of lowest curvature has
little to do with the path (overlaps of 0.04 to 0.15 were seen), and is one of many kinks. With a
``radius`` the search stays between the neighbours of the peak instead: up along the path alone,
down across it, by ``lowered_peak``.

Hessian–vector products are central differences of exact gradients over a given distance: a network with ReLU
has no second derivatives at its kinks, and a difference sees the curvature that many small jumps add up to.
The result is checked for a kink and for a flat top.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, minres
from torch import Tensor

from topo_core.critical_points.classification import ClassifySettings, classify_point
from topo_core.critical_points.counting import Counted
from topo_core.critical_points.lanczos import Product, lowest_eigenpairs
from topo_core.critical_points.peak_descent import lowered_peak
from topo_core.critical_points.spectrum import Spectrum, SpectrumSettings, lowest_spectrum
from topo_core.critical_points.verdicts import Verdict
from topo_core.objectives.protocol import Step

Gradients = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Exact losses [k] and gradients [k, d] of points [k, d]."""

_MOVE = 0.3  # longest step of the climb, in spacings
_MODES = 4  # products spent on the direction of lowest curvature in a step
_FLAT = 1e-3  # of the barrier: a smaller fall within one spacing is a flat top
_KINK = 0.5  # a jump of slopes that keeps this part of itself on a tenth of the distance is a kink
_PAIRS = 32  # negative eigenvalues that are counted: more are a lower bound
_PATIENCE = 15  # times the products of a Newton step, to settle a sign


@dataclass(frozen=True)
class SaddleSettings:
    """What may be spent.

    Attributes:
        climb: steps of the climbing image, or of the descent across the path.
        polish: Newton steps.
        lanczos: products with the Hessian in each Newton step; up to 15 times as many settle the sign of
            each of its lowest eigenvalues.
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
        negative: negative eigenvalues of the Hessian that are proved. 1 at a pass.
        negative_is_exact: whether there are no more; else ``negative`` is a lower bound.
        degenerate: whether the loss falls along directions without curvature, as at a monkey saddle.
        eigenvalues: the lowest ones, increasing, at most five.
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
    negative_is_exact: bool
    degenerate: bool
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
        """In a word: pass, saddle (of a higher index, or degenerate), minimum, sinks, kink, flat, moving.

        ``unsettled`` where the products did not settle the sign of the lowest curvatures.
        """
        if self.sunk:
            return "sinks"
        if self.kink:
            return "kink"
        if self.flat:
            return "flat"
        if not self.stationary:
            return "moving"
        if self.degenerate or self.negative > 1:
            return "saddle"
        if not self.negative_is_exact:
            return "unsettled"
        return "pass" if self.negative else "minimum"


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
        peak: [d], the highest point of the path.
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
    counted = Counted(_Given(gradients), settings.difference * spacing)
    enough = settings.tolerance * barrier / spacing
    along = tangent / tangent.norm()
    peak_loss, peak_gradient = counted.at(peak)
    if settings.radius is None:
        climbed, along = _climb(counted, peak, along, spacing, enough, settings)
        point = _polished(counted, climbed, spacing, enough, settings)
        loss, gradient = counted.at(point)
    else:
        reach = settings.radius * spacing
        climbed = lowered_peak(
            counted.at, peak, along, radius=reach, enough=enough, steps=settings.climb
        )
        point, (loss, gradient) = climbed, counted.at(climbed)
        if loss > peak_loss - barrier:
            solved = _polished(counted, climbed, spacing, enough, settings)
            there = counted.at(solved)
            # What Newton's steps have not finished, or where they lead away, is no peak of the path.
            if float(there[1].norm()) <= enough and float((solved - peak).norm()) <= reach:
                point, (loss, gradient) = solved, there
    spectrum = lowest_spectrum(
        counted,
        point,
        SpectrumSettings(products=_PATIENCE * settings.lanczos, pairs=_PAIRS),
        seed=seed,
    )
    degenerate = _is_degenerate_saddle(counted, point, spectrum, enough, spacing, seed)
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
        negative=spectrum.negative,
        negative_is_exact=spectrum.settled and not degenerate,
        degenerate=degenerate,
        eigenvalues=tuple(spectrum.values[:5].tolist()),
        direction=spectrum.vectors[0] if len(spectrum.vectors) else along,
        kink=_has_kink(counted, point, along, spacing),
        flat=_is_flat(counted, point, along, spacing, barrier),
        sunk=settings.radius is not None and loss <= peak_loss - barrier,
        gradient_evaluations=counted.gradients + 2 * counted.products,
    )


class _Given:
    """An objective of which only exact losses and gradients are given."""

    dimension, batches = None, 1

    def __init__(self, gradients: Gradients) -> None:
        self._gradients = gradients

    def gradients(self, points: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        del step
        return self._gradients(points)

    def losses(self, points: Tensor) -> Tensor:
        return self._gradients(points)[0].to(torch.float64)


def _climb(
    gradients: Counted,
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
        _, gradient = gradients.at(point)
        if float(gradient.norm()) <= 100 * enough:
            break
        along, curvature = _followed(gradients, point, along)
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
        up = -slope / curvature if curvature < 0 else math.copysign(longest, slope)
        up = max(-longest, min(longest, up))
        before = point, across
        point = point + down + up * along
    return point, along


def _followed(gradients: Counted, point: Tensor, along: Tensor) -> tuple[Tensor, float]:
    """``along`` turned towards the lowest curvature by a short Lanczos, and the curvature."""
    pairs = lowest_eigenpairs(lambda v: gradients.product(point, v), along, max_products=_MODES)
    if not len(pairs.values):
        return along, math.nan
    turned = pairs.vectors[0]
    return turned * math.copysign(1.0, float(turned @ along)), float(pairs.values[0])


def _polished(
    gradients: Counted, point: Tensor, spacing: float, enough: float, settings: SaddleSettings
) -> Tensor:
    """Newton steps to the stationary point nearby, as long as the gradient gets smaller."""
    _, gradient = gradients.at(point)
    for _ in range(settings.polish):
        norm = float(gradient.norm())
        if norm <= 1e-3 * enough:
            break
        here = point
        step = _newton_move(lambda v: gradients.product(here, v), gradient, settings.lanczos)  # noqa: B023
        step *= min(1.0, _MOVE * spacing / max(float(step.norm()), 1e-300))
        found = gradients.at(point + step)[1]
        if not float(found.norm()) < norm:
            step *= 0.25
            found = gradients.at(point + step)[1]
            if not float(found.norm()) < norm:
                break
        point, gradient = point + step, found
    return point


def _newton_move(product: Product, gradient: Tensor, products: int) -> Tensor:
    """The least-squares solution of H x = −gradient in a Krylov space (MINRES, Paige & Saunders 1975)."""

    def times(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        image: NDArray[np.float64] = product(torch.as_tensor(vector).to(gradient)).cpu().numpy()
        return image

    size = len(gradient)
    hessian = LinearOperator((size, size), matvec=times, dtype=np.float64)
    right = -gradient.cpu().double().numpy()
    solution, _ = minres(hessian, right, rtol=1e-12, maxiter=min(products, size))
    return torch.as_tensor(solution).to(gradient)


def _is_degenerate_saddle(
    gradients: Counted, point: Tensor, spectrum: Spectrum, enough: float, spacing: float, seed: int
) -> bool:
    """Whether a point without negative curvature is left downwards along its zero modes."""
    if spectrum.negative or not spectrum.zeros:
        return False
    found = classify_point(
        gradients.objective,
        point,
        ClassifySettings(tolerance=enough, length=spacing),
        seed=seed,
    )
    gradients.gradients += found.gradients
    gradients.products += found.products
    return found.verdict is Verdict.SADDLE


def _has_kink(gradients: Counted, point: Tensor, along: Tensor, spacing: float) -> bool:
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
    gradients: Counted, point: Tensor, along: Tensor, spacing: float, barrier: float
) -> bool:
    """Whether the loss stays within a small part of the barrier on one side or the other."""
    around = torch.stack([point + spacing * along, point, point - spacing * along])
    losses, _ = gradients.batch(around)
    fall = losses[1] - torch.maximum(losses[0], losses[2])
    return bool(fall.abs() < _FLAT * barrier)
