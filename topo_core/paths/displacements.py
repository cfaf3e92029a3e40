"""Displacements of points, computed from descent directions by the update rule named in the settings."""

from torch import Tensor

from topo_core.paths.update_settings import OptimizerSettings
from topo_core.paths.updates.protocol import Slots
from topo_core.paths.updates.registry import UPDATES


def empty_slots(settings: OptimizerSettings, points: Tensor) -> Slots:
    """The slots of a path ``points`` [n, d] before its first step."""
    return UPDATES[settings.name].slots(points)


def displacement(
    settings: OptimizerSettings,
    slots: Slots,
    normal: Tensor,
    rate: float,
    *,
    spacing: Tensor,
    max_move: float | None,
) -> Tensor:
    """The displacements [k, d] of k points, to be subtracted.

    For p paths every tensor has one more axis, the first.

    Args:
        settings: the update rule and its numbers.
        slots: the rows of the k points; the update rule writes its new state into them.
        normal: [k, d], the direction to descend along; its memory may be reused for the result.
        rate: the learning rate of this step.
        spacing: [k], distance to the nearer neighbour.
        max_move: longest displacement in units of ``spacing``; None for no bound.
    """
    bound = None if max_move is None else max_move * spacing
    update = UPDATES[settings.name]
    return update.displacement(settings, slots, normal, rate, spacing=spacing, bound=bound)
