"""What a search over saddles may spend, and what it has spent."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RouteSettings:
    """What the search may spend.

    Attributes:
        budget: gradients and Hessian-vector products, once the ends are joined.
        unjoined: the same while they are not.
        dense: dimensions up to which Hessians are taken whole.
        modes: soft modes climbed from a minimum, in both directions.
        gaps: paths relaxed together.
    """

    budget: int = 10_000
    unjoined: int = 20_000
    dense: int = 256
    modes: int = 12
    gaps: int = 3


@dataclass(frozen=True)
class Effort:
    """What a search took and met.

    Attributes:
        gradients, products: rows of gradients and Hessian-vector products.
        minima, saddles: how many of them it has met.
    """

    gradients: int = 0
    products: int = 0
    minima: int = 0
    saddles: int = 0

    def __add__(self, other: "Effort") -> "Effort":
        return Effort(
            self.gradients + other.gradients,
            self.products + other.products,
            self.minima + other.minima,
            self.saddles + other.saddles,
        )
