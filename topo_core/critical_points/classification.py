"""What a point of a loss is: minimum, saddle, flat, kink, not stationary or unbounded.

"Minimum" is a claim, and made only where the gradient vanishes within the tolerance and the sign of the
lowest curvature is settled by error bounds. Two things can still deceive. A curvature that is positive
at the point may vanish at the stationary point beside it (x⁴ near 0): so the lowest curvatures are
measured again at the distance that the gradient leaves open. And where a curvature is zero, higher
orders decide (x³, the monkey saddle): so the loss is sampled along those directions.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from topo_core.critical_points.counting import (
    CountedObjective,
    largest_curvature,
    length_scale,
    measured_rounding,
    stationary_tolerance,
)
from topo_core.critical_points.kinks import find_kink
from topo_core.critical_points.spectrum import Spectrum, SpectrumSettings, lowest_spectrum
from topo_core.critical_points.symmetry_modes import ExplainedModes, symmetry_modes
from topo_core.critical_points.verdicts import CriticalPoint, Verdict
from topo_core.objectives.protocol import Objective
from topo_core.random_streams import generator

_DISTANCES = (1e-3, 1e-2)  # in sizes of the parameters: where the loss is sampled along zero modes
_BESIDE = 6  # random directions, each on both sides, in which a minimum must not be discontinuous,
_TINY = 1e-6  # and the distance, in sizes of the parameters
_COMBINATIONS = 6  # random directions in the span of the zero modes
_OPEN = 4.0  # Newton steps along an eigenvector within which its curvature must not vanish
_KEEPS = 0.5  # part of its curvature that it must keep there
_DOUBLINGS = 8  # of the distance along which a loss must keep falling to be called unbounded

Tangents = Callable[[Tensor], Mapping[str, Tensor]]
"""From a point [d] to tangents [q, d] of continuous symmetries of the loss, by what the symmetry is called.
"""


@dataclass(frozen=True)
class ClassifySettings:
    """How a point is judged.

    Attributes:
        tolerance: gradient norm up to which a point counts as stationary; None for
            ``stationary_tolerance``.
        length: size of the parameters, the unit of the distances at which the loss is sampled; None
            for the norm of the point.
        spectrum: what may be spent on the lowest eigenvalues.
    """

    tolerance: float | None = None
    length: float | None = None
    spectrum: SpectrumSettings = field(default_factory=SpectrumSettings)

    def __post_init__(self) -> None:
        for key in ("tolerance", "length"):
            value = getattr(self, key)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{key} is {value}; it must be a finite number above 0, or None.")


def classify_point(
    objective: Objective,
    point: Tensor,
    settings: ClassifySettings | None = None,
    *,
    symmetries: Tangents | None = None,
    origin: Tensor | None = None,
    near: Tensor | None = None,
    seed: int = 0,
) -> CriticalPoint:
    """What ``point`` [d] is, and the numbers that say so.

    Args:
        objective: the loss, with exact gradients.
        point: [d]; float64 is worth its price.
        settings: all defaults when None.
        symmetries: tangents of continuous symmetries of the loss, which may explain zero modes. Each kind is
            checked: the Hessian times a combination of its tangents must vanish.
        origin: [d], where a descent to ``point`` began: the parameters grow from there to ``point``.
        near: [d], a vector close to the lowest eigenvector; see ``lowest_spectrum``.
        seed: of the random directions.

    Raises:
        ValueError: the objective has only gradients on minibatches.
    """
    settings = settings or ClassifySettings()
    return _Classification(objective, point, settings, symmetries, origin, near, seed).result()


class _Classification:
    def __init__(
        self,
        objective: Objective,
        point: Tensor,
        settings: ClassifySettings,
        symmetries: Tangents | None,
        origin: Tensor | None,
        near: Tensor | None,
        seed: int,
    ) -> None:
        self.counted, self.settings, self.seed = CountedObjective(objective), settings, seed
        self.point, self.symmetries, self.origin, self.near = point, symmetries, origin, near
        self.length = settings.length or length_scale(point)
        self.loss, self.gradient = self.counted.at(point)
        self.norm = float(torch.linalg.vector_norm(self.gradient.double()))

    def result(self) -> CriticalPoint:
        if not (math.isfinite(self.loss) and math.isfinite(self.norm)):
            return self._point(Verdict.NOT_FINITE)
        kink = find_kink(
            self.counted, self.point, self.gradient, length=self.length, seed=self.seed
        )
        if kink is not None:
            return self._final(
                self._point(Verdict.KINK),
                Verdict.KINK,
                jump=kink.jump,
                smallest_subgradient=kink.smallest,
            )
        self.rounding = measured_rounding(self.counted, self.point, self.loss, self.gradient)
        tolerance = self.settings.tolerance
        if tolerance is None:
            scale = largest_curvature(self.counted, self.point, self.seed)
            tolerance = stationary_tolerance(
                scale, self.length, self.rounding.gradient, self.point.dtype
            )
        base = replace(self._point(Verdict.NOT_STATIONARY), tolerance=tolerance)
        if not self.norm <= tolerance:
            falls = self._keeps_falling([-self.gradient])
            return self._final(base, Verdict.UNBOUNDED if falls else Verdict.NOT_STATIONARY)
        spectrum = lowest_spectrum(
            self.counted, self.point, self.settings.spectrum, near=self.near, seed=self.seed
        )
        return self._judged(base, spectrum)

    def _judged(self, base: CriticalPoint, spectrum: Spectrum) -> CriticalPoint:
        """The verdict on a stationary point."""
        flat = self._without_curvature(spectrum)
        explained = ExplainedModes.none(self.point)
        if bool(flat.any()) or not spectrum.settled:
            explained = self._explained(spectrum.zero)
        whole = len(spectrum.values) == len(self.point)
        if len(explained.frame) and not whole:
            # Lanczos cannot get past more zero modes than it looks for: leave out those that are known.
            spectrum = lowest_spectrum(
                self.counted,
                self.point,
                self.settings.spectrum,
                deflate=explained.frame,
                seed=self.seed,
            )
            flat = self._without_curvature(spectrum)
        modes = spectrum.vectors[flat.to(spectrum.vectors.device)]
        counts = explained.among(modes) if whole else explained.counts
        unexplained = len(modes) - (sum(counts.values()) if whole else 0)
        shown = ~flat if whole and len(modes) and not unexplained else torch.ones_like(flat)
        base = replace(
            base,
            eigenvalues=tuple(spectrum.values[shown][:8].tolist()),
            residuals=tuple(spectrum.residuals[shown][:8].tolist()),
            largest_curvature=spectrum.largest,
            index=spectrum.negative,
            index_is_exact=spectrum.settled and not unexplained,
            zero_modes=unexplained + sum(counts.values()),
            explained_modes=counts,
            missed=spectrum.missed,
        )
        if spectrum.negative:
            return self._final(base, Verdict.SADDLE, direction=spectrum.vectors[0])
        if not spectrum.settled and not len(modes):
            return self._final(base, Verdict.UNSETTLED)
        if base.zero_modes:
            down = modes @ self.gradient
            if self._keeps_falling([*(-down.sign()[:, None] * modes), -self.gradient]):
                return self._final(base, Verdict.UNBOUNDED)
            falling = self._falling(modes) if len(modes) else None
            if falling is not None:
                return self._final(base, Verdict.SADDLE, direction=falling)
            return self._final(base, Verdict.FLAT)
        step = self._step_down()
        if step > 0:
            return self._final(base, Verdict.KINK, jump=step)
        return self._final(base, Verdict.MINIMUM)

    def _without_curvature(self, spectrum: Spectrum) -> Tensor:
        """[m], whether each eigenpair has no curvature, or may have none where the gradient ends."""
        flat: Tensor = spectrum.values.abs() <= spectrum.zero
        for k in range(len(flat)):
            value = float(spectrum.values[k])
            if value <= spectrum.zero:
                continue
            vector = spectrum.vectors[k]
            step = _OPEN * abs(float(self.gradient @ vector)) / value
            there = torch.stack([self.point + step * vector, self.point - step * vector])
            images = torch.stack([self.counted.product(row, vector) for row in there])
            if not bool(((images @ vector) >= _KEEPS * value).all()):
                flat[k] = True
            elif value > 1e3 * spectrum.zero:
                break  # the curvatures above it are larger still
        return flat

    def _explained(self, zero: float) -> ExplainedModes:
        """The zero modes that symmetries explain; ``zero`` is the curvature that counts as none."""
        named = {} if self.symmetries is None else self.symmetries(self.point)
        return symmetry_modes(
            self.counted,
            self.point,
            named,
            largest_image=zero + _OPEN * self.norm,
            largest_change=self.rounding.loss,
            memory=self.settings.spectrum.memory,
            length=self.length,
            seed=self.seed,
        )

    def _falling(self, modes: Tensor) -> Tensor | None:
        """A unit vector in the span of ``modes`` [q, d] along which the loss falls, or None."""
        draw = generator(self.seed, "zero modes")
        weights = torch.randn(_COMBINATIONS, len(modes), generator=draw, dtype=torch.float64)
        rows = torch.cat([modes, weights.to(modes) @ modes]) if len(modes) > 1 else modes
        rows = rows / rows.norm(dim=1, keepdim=True)
        rows = torch.cat([rows, -rows])
        for size in _DISTANCES:
            step = size * self.length
            losses = self.counted.objective.losses(self.point + step * rows)
            falls = self.loss - losses - self.rounding.loss - 2 * self.norm * step
            best = int(falls.nan_to_num(-math.inf).argmax())
            if float(falls[best]) > 0:
                return rows[best]
        return None

    def _step_down(self) -> float:
        """By how much the loss is lower a tiny distance away: 0 unless it is discontinuous."""
        draw = generator(self.seed, "step down")
        rows = torch.randn(_BESIDE, len(self.point), generator=draw, dtype=torch.float64)
        moves = (_TINY * self.length * rows / rows.norm(dim=1, keepdim=True)).to(self.point)
        losses = self.counted.objective.losses(torch.cat([self.point + moves, self.point - moves]))
        # A stationary point allows the gradient's change of the loss, and no more.
        allowed = self.rounding.loss + 2 * self.norm * _TINY * self.length
        falls = self.loss - losses.nan_to_num(math.inf) - allowed
        return max(0.0, float(falls.max()))

    def _keeps_falling(self, directions: list[Tensor]) -> bool:
        """Whether the loss decreases over each of many doublings of the distance, along some direction.

        Directions that are tried: the given ones, the parameters themselves (which grow), and that from the
        origin of the descent.
        """
        directions = [*directions, self.point]
        if self.origin is not None:
            directions.append(self.point - self.origin)
        for direction in directions:
            size = float(direction.norm())
            if not size > 0:
                continue
            steps = self.length * 2.0 ** torch.arange(_DOUBLINGS, dtype=torch.float64)
            moves = steps.to(self.point)[:, None] * (direction / size)
            losses = self.counted.objective.losses(self.point + moves)
            losses = torch.cat([losses.new_tensor([self.loss]), losses])
            least = self.rounding.loss
            falls = bool((losses.diff() <= least).all())
            if falls and float(losses[1]) < self.loss - least:
                return True
        return False

    def _final(self, base: CriticalPoint, verdict: Verdict, **changes: object) -> CriticalPoint:
        counts = {"gradients": self.counted.gradients, "products": self.counted.products}
        return replace(base, verdict=verdict, **counts, **changes)  # type: ignore[arg-type]

    def _point(self, verdict: Verdict) -> CriticalPoint:
        return CriticalPoint(
            point=self.point,
            loss=self.loss,
            gradient_norm=self.norm,
            tolerance=0.0,
            verdict=verdict,
            eigenvalues=(),
            residuals=(),
            largest_curvature=0.0,
            index=0,
            index_is_exact=False,
            zero_modes=0,
            explained_modes={},
            missed=1.0,
            direction=None,
            jump=0.0,
            smallest_subgradient=self.norm,
            gradients=self.counted.gradients,
            products=self.counted.products,
        )
