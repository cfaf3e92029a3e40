"""How the height of a path is measured: the values of ``PathSettings.heights``."""

from dataclasses import dataclass

from topo_core.paths.criteria.protocol import ALPHAS
from topo_core.registry import Registry


@dataclass(frozen=True)
class HeightRule:
    """Where the loss on each segment of a polygon is evaluated.

    Attributes:
        alphas: fractions of a segment, the first of them 0; the grid that is always evaluated.
        bisects: whether the grid is refined around every peak that may hold the maximum. Without
            refinement nothing is known about the loss between the samples, and no error is estimated.
    """

    alphas: tuple[float, ...]
    bisects: bool


ADAPTIVE = HeightRule((0.0, 0.25, 0.5, 0.75), bisects=True)
PAPER = HeightRule((0.0, *ALPHAS), bisects=False)

HEIGHTS: Registry[HeightRule] = Registry({"adaptive": ADAPTIVE, "paper": PAPER})
