"""The protocol of update rules: a descent direction becomes a displacement; the memory is kept in slots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

Slots = dict[str, "Tensor"]
"""The memory of an update rule: tensors [n, c] with one row for each point. A slot is a function along the
curve, so it is interpolated as the points are where points are redistributed or inserted."""


class UpdateNumbers(Protocol):
    """The numbers of an update; `OptimizerSettings` has them."""

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
            numbers: of the update.
            slots: the rows of the k points; the rule writes its new state into them.
            normal: [k, d], the direction to descend along; its memory may be reused for the result.
            rate: the learning rate of this step.
            spacing: [k], distance to the nearer neighbour.
            bound: [k], longest displacements; None for no bound.
        """
