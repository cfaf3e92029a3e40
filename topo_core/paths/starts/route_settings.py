"""The limits of a search over saddles, and its effort."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class RouteSettings:
    """The limits of a search over saddles.

    Attributes:
        budget: number of gradients and Hessian-vector products after which the search ends, if the ends are
            joined.
        unjoined: the same number while the ends are not joined.
        dense: largest number of dimensions for which whole Hessians are computed.
        modes: largest number of soft modes climbed from a minimum, each in both directions.
        gaps: number of paths relaxed together in a round.
        too_high: loss; the search ends if all paths between the ends stay above it in the first relaxation.
    """

    budget: int = 10_000
    unjoined: int = 20_000
    dense: int = 256
    modes: int = 12
    gaps: int = 3
    too_high: float = math.inf


@dataclass(frozen=True)
class Effort:
    """The effort of a search and the numbers of its results.

    Attributes:
        gradients, products: numbers of gradients and of Hessian-vector products evaluated.
        minima, saddles: numbers of minima and saddles found.
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
