"""The verification of the highest point of a path: the result of a search over saddles."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class VerifiedPass:
    """A saddle of index 1 that is the highest point of a path.

    Attributes:
        loss: loss at the saddle.
        gradient_norm: norm of the gradient at the saddle.
        eigenvalues: the two lowest eigenvalues of the Hessian, in increasing order; the first is negative.
        error: error bound: the interval of this radius around each of ``eigenvalues`` contains an eigenvalue.
        joins: losses at the ends of the two descents: at minima, unless a descent stopped before.
        searched: whether the search is complete: climbs along soft modes on the side of the higher end found
            no lower saddle.
        minima, saddles: numbers of minima and saddles that the search found.
        gradients, products: numbers of gradients and of Hessian-vector products evaluated in the search.
    """

    loss: float
    gradient_norm: float
    eigenvalues: tuple[float, ...]
    error: float
    joins: tuple[float, float]
    searched: bool
    minima: int
    saddles: int
    gradients: int
    products: int

    def scalars(self) -> dict[str, Any]:
        """All fields, as values that JSON can hold."""
        return asdict(self)

    @classmethod
    def restore(cls, scalars: Mapping[str, Any] | None) -> "VerifiedPass | None":
        """The record that ``scalars`` came from; None for None."""
        if scalars is None:
            return None
        tuples: Any = {key: tuple(scalars[key]) for key in ("eigenvalues", "joins")}
        return cls(**{**scalars, **tuples})

    def __str__(self) -> str:
        """One sentence without its full stop."""
        lowest = ", ".join(f"{value:.3g}" for value in self.eigenvalues)
        return (
            f"its highest point is a saddle of index 1 (‖∇L‖ = {self.gradient_norm:.2g}, lowest curvatures "
            f"{lowest} ± {self.error:.1g})"
        )
