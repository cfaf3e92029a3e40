"""The protocol of insertion criteria: a number D for each segment; the largest ones get a midpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

ALPHAS = (0.2, 0.4, 0.6, 0.8)
"""Where the losses inside a segment are sampled, in fractions of its length (section 2.7)."""


@dataclass(frozen=True)
class Segments:
    """The segments of a path of n points.

    Attributes:
        lengths: [n - 1], lengths of the segments.
        chord: distance between the ends of the initial path.
        node_losses: [n], losses at the points; empty if the criterion needs no losses.
        inside: [n - 1, 4], losses at ``ALPHAS`` of each segment; empty if the criterion needs no losses.
    """

    lengths: Tensor
    chord: float
    node_losses: Tensor
    inside: Tensor


class Criterion(Protocol):
    """A measure of how much a segment needs a midpoint."""

    @property
    def needs_losses(self) -> bool:
        """Whether the criterion uses losses, so that they must be evaluated."""

    def scores(self, segments: Segments) -> Tensor:
        """D [n - 1] of each segment."""
