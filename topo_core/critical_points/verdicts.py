"""What a point of a loss is: the verdict, and the numbers that it rests on."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from torch import Tensor

_CLARKE = (
    1e-4  # part of a jump at which the smallest vector in the hull of the gradients counts as zero
)


class Verdict(Enum):
    """What a point is. The values are sentences for reports."""

    MINIMUM = "a minimum: stationary, and the lowest curvature is positive beyond its error bound"
    SADDLE = "a saddle: stationary, and the loss falls along a direction of curvature"
    FLAT = "flat: stationary, without negative curvature, and some directions have none at all"
    KINK = "a kink: the gradient jumps or the loss ends here, so no Hessian describes the loss"
    NOT_STATIONARY = "not stationary: the gradient is above the tolerance"
    UNBOUNDED = "unbounded: the loss keeps falling while the parameters grow"
    UNSETTLED = "stationary, but the sign of the lowest curvature is not settled"
    NOT_FINITE = "not finite: the loss or its gradient is NaN or infinite here"


@dataclass(frozen=True)
class CriticalPoint:
    """A point and its verdict, with the numbers behind it.

    Attributes:
        point: [d].
        loss: there.
        gradient_norm: there, of the exact gradient.
        tolerance: gradient norm up to which the point counts as stationary.
        verdict: what it is.
        eigenvalues: the lowest ones of the Hessian, increasing, without those that symmetries explain if they
            explain all zero modes; empty where they were not asked for.
        residuals: an eigenvalue lies within this distance of each.
        largest_curvature: the largest |curvature| that was seen.
        index: negative eigenvalues that are proved.
        index_is_exact: whether there are no more; else ``index`` is a lower bound.
        zero_modes: directions without curvature, among those looked at.
        explained_modes: how many of them are directions of continuous symmetries of the loss, by what the
            symmetry is called.
        missed: bound on the probability that Lanczos overlooked a lower eigenvalue.
        direction: [d], of unit length, along which the loss falls at a saddle; None elsewhere.
        jump: of the gradient, at a kink; else 0.
        smallest_subgradient: at a kink the smallest vector in the hull of the gradients around the
            point, zero at a minimum on a kink; else the gradient norm.
        gradients, products: rows of gradients and Hessian–vector products that this took.
    """

    point: Tensor
    loss: float
    gradient_norm: float
    tolerance: float
    verdict: Verdict
    eigenvalues: tuple[float, ...]
    residuals: tuple[float, ...]
    largest_curvature: float
    index: int
    index_is_exact: bool
    zero_modes: int
    explained_modes: Mapping[str, int]
    missed: float
    direction: Tensor | None
    jump: float
    smallest_subgradient: float
    gradients: int
    products: int

    def __str__(self) -> str:
        """One sentence: the verdict with its numbers."""
        numbers = f"‖∇L‖ = {self.gradient_norm:.2g}, tolerance {self.tolerance:.2g}"
        if self.eigenvalues:
            lowest, error = self.eigenvalues[0], self.residuals[0]
            numbers += f"; lowest curvature {lowest:.3g} ± {error:.1g}"
        if self.verdict is Verdict.SADDLE and self.index:
            numbers += f"; index {'' if self.index_is_exact else '≥ '}{self.index}"
        if self.zero_modes:
            numbers += f"; {self._about_zero_modes()}"
        if self.verdict is Verdict.MINIMUM and self.missed > 0.01:
            numbers += f"; a lower one was missed with probability {self.missed:.2g} or less"
        if self.verdict is Verdict.KINK:
            numbers += (
                f"; jump {self.jump:.2g}, smallest subgradient {self.smallest_subgradient:.2g}"
            )
            if self.is_clarke_stationary:
                numbers += ": stationary in Clarke's sense"
        return f"{self.verdict.value} ({numbers})"

    @property
    def is_clarke_stationary(self) -> bool:
        """Whether zero lies in the hull of the gradients around a kink, up to a small part of the jump."""
        small = self.smallest_subgradient <= _CLARKE * self.jump
        return self.verdict is Verdict.KINK and small

    @property
    def symmetry_modes(self) -> int:
        """How many of the zero modes are directions of continuous symmetries of the loss."""
        return sum(self.explained_modes.values())

    def _about_zero_modes(self) -> str:
        count = self.zero_modes
        modes = f"{count} direction{'' if count == 1 else 's'} without curvature"
        parts = [f"{number} explained by {name}" for name, number in self.explained_modes.items()]
        left = count - self.symmetry_modes
        if not parts:
            return f"{modes}, unexplained by symmetries"
        return f"{modes}: {', '.join([*parts, f'{left} unexplained'])}"
