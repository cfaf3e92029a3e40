"""The protocol of update rules, which turn descent directions into displacements; their state is in slots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

Slots = dict[str, "Tensor"]
"""The state of an update rule: tensors [n, c] by name, with one row for each point. When points are
redistributed or inserted, the rows of the slots are interpolated in the same way as the points."""


class UpdateNumbers(Protocol):
    """The hyper-parameters of an update rule; `OptimizerSettings` meets this protocol."""

    @property
    def momentum(self) -> float: ...
    @property
    def betas(self) -> tuple[float, float]: ...
    @property
    def eps(self) -> float: ...


class Update(Protocol):
    """An optimiser that acts on the rows of [k, d] independently."""

    def slots(self, points: Tensor) -> Slots:
        """The slots of a path ``points`` [n, d] before its first step."""

    def displacement(
        self,
        numbers: UpdateNumbers,
        slots: Slots,
        normal: Tensor,
        rate: float,
        *,
        spacing: Tensor,
        bound: Tensor | None,
    ) -> Tensor:
        """The displacements [k, d] of k points, to be subtracted.

        For p paths every tensor has one more axis, the first.

        Args:
            numbers: the hyper-parameters.
            slots: the rows of the k points; the rule writes its new state into them.
            normal: [k, d], the direction to descend along; its memory may be reused for the result.
            rate: the learning rate of this step.
            spacing: [k], distance to the nearer neighbour.
            bound: [k], longest displacements; None for no bound.
        """
