"""The protocol of tangent rules: which part of the gradient is removed, and which other settings depend on
it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from topo_core.paths.schedules import Schedule
from topo_core.paths.update_settings import OptimizerSettings

if TYPE_CHECKING:
    from torch import Tensor

    from topo_core.paths.chords import Chords


@dataclass(frozen=True)
class Method:
    """The parts of the optimisation that depend on the tangent rule; the first four are defaults of settings.

    Attributes:
        redistributes: whether points are redistributed at equal arc length every few steps.
        optimizer, schedule, start: defaults that replace the usual ones; None for the usual ones.
        bounded: whether displacements are cut to ``max_move``.
        sequential: whether points move one after the other, so that the tangent at a point uses the moved
            position of its left neighbour.
        climbs: whether the highest point may climb.
        stops_early: whether the run ends when the path cannot become lower, or no longer moves.
    """

    redistributes: bool = True
    optimizer: OptimizerSettings | None = None
    schedule: Schedule | None = None
    start: str | None = None
    bounded: bool = True
    sequential: bool = False
    climbs: bool = True
    stops_early: bool = True


@dataclass(frozen=True)
class Neighbourhood:
    """The input of a tangent rule at k moving points. For p paths every tensor has one more axis, the first.

    Attributes:
        chords: the chords between each point and its two neighbours.
        along_back, along_front: [k], inner products of the gradient with the two chords.
        losses: [k, 3], at the left neighbour, the point and the right neighbour.
        climbing: [k] of bool, the points that climb; None for none.
        spring: stiffness, in units of loss over length squared.
    """

    chords: Chords
    along_back: Tensor
    along_front: Tensor
    losses: Tensor
    climbing: Tensor | None
    spring: float


class TangentRule(Protocol):
    """A choice of A_b and A_f.

    At a moving point with back chord b, front chord f and gradient g, the path descends along
    n = g - A_b b - A_f f.
    """

    @property
    def method(self) -> Method:
        """The other parts of the optimisation that depend on the rule."""

    def shares(self, around: Neighbourhood) -> tuple[Tensor, Tensor]:
        """A_b and A_f, [k] each."""
