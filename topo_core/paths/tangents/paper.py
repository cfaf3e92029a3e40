"""Algorithm 2 exactly as in the paper: g - (P_b g + P_f g) / 2, where P_b and P_f project on the chords.

If the two chords differ in direction, this is not a projection, and a part of the tangential component
remains. Points move one after the other, so the chord b starts at the moved position of the left neighbour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from topo_core.paths.schedules import Schedule
from topo_core.paths.tangents.along_tangent import ratio
from topo_core.paths.tangents.protocol import Method, Neighbourhood
from topo_core.paths.update_settings import OptimizerSettings

if TYPE_CHECKING:
    from torch import Tensor


class Paper:
    """Half of the projections on the two chords."""

    method = Method(
        redistributes=False,
        optimizer=OptimizerSettings("sgd", lr=0.05),
        schedule=Schedule("constant"),
        start="line",
        bounded=False,
        sequential=True,
        climbs=False,
        stops_early=False,
    )

    def shares(self, around: Neighbourhood) -> tuple[Tensor, Tensor]:
        """A_b and A_f, [k] each."""
        from_back = 0.5 * ratio(around.along_back, around.chords.back_back)
        from_front = 0.5 * ratio(around.along_front, around.chords.front_front)
        return from_back, from_front


PAPER = Paper()
