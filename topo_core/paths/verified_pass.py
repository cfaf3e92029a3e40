"""The verification of a path's highest point: the record of a search over saddles."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class VerifiedPass:
    """A saddle of index 1 that is the highest point of a path.

    Attributes:
        loss: at the saddle.
        gradient_norm: there.
        eigenvalues: the two lowest ones of the Hessian, increasing; the first is negative.
        error: an eigenvalue lies within this distance of each.
        joins: losses of the two minima beside it, or where a descent to one was given up.
        searched: whether climbs from the higher end, along its soft modes, have found no lower saddle.
        minima, saddles: how many of them the search found.
        gradients, products: rows of gradients and Hessian-vector products that it took.
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
        """Everything, as JSON can write it."""
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
