"""Finds the minima of a run that are copies of each other under the exact symmetries of its network.

Copies have equal losses, so only minima of equal loss are compared; without such minima no weights are read
and no network is built. Networks and data of the user are not supported: reading a store must not run code
that the store names.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator.planning.plan import Plan
from workers.problems.user_code import BadReference
from workers.storage.run_store import Damaged, Store
from workers.storage.schema import MinimumRecord

if TYPE_CHECKING:
    from torch import Tensor

EQUAL_LOSSES = 1e-6
"""Relative difference of two losses up to which they count as equal: the rounding of a mean in float32."""

NO_LOSS = 1e-12
"""Losses up to this count as equal to 0, where no relative difference is small. Minima are copies only if
their points agree, so a larger group costs time and changes no result."""

SAME_POINT = 1e-3
"""Distance between a minimum and a copy, relative to its norm, up to which they count as the same point.

A minimum polished in float32 has a relative distance of about sqrt(1e-7) from the exact one. Different minima
with the same loss are farther apart by orders of magnitude.
"""


def classes_of_copies(
    plan: Plan, store: Store, minima: Mapping[int, MinimumRecord]
) -> dict[int, int] | None:
    """Map each minimum to the first minimum that it is a copy of.

    Args:
        plan: of the run.
        store: of the run.
        minima: the records of the minima, by number.

    Returns:
        For each minimum the smallest number in its class. None if copies cannot be recognised: the network or
        data are not this program's own, weights are missing, or the symmetries of a layer are not known.
    """
    classes = {minimum: minimum for minimum in minima}
    groups = _of_equal_loss({number: record.loss for number, record in minima.items()})
    if not groups:
        return classes
    problem = plan.problem
    if ":" in problem.network.name or ":" in problem.data.name:
        return None
    try:
        return {**classes, **_compared(plan, store, minima, groups)}
    except (BadReference, Damaged, KeyError, ValueError):
        return None


def classes_of_equal_points(store: Store, minima: Mapping[int, MinimumRecord]) -> dict[int, int]:
    """Map each minimum to the first minimum at the same point; symmetric copies are different points.

    Two points count as the same up to `SAME_POINT` of the largest norm of a minimum, and up to the distance
    that their gradients leave open: two minima may lie at the origin, where no distance is relatively small.

    Args:
        store: of the run.
        minima: the records of the minima, by number.

    Raises:
        Damaged: a minimum cannot be read.
    """

    classes = {minimum: minimum for minimum in minima}
    groups = _of_equal_loss({number: record.loss for number, record in minima.items()})
    if not groups:
        return classes
    points = {number: _point_of(store, record) for number, record in minima.items()}
    same = SAME_POINT * max(float(point.norm()) for point in points.values())
    open_ = {number: _open_distance(record) for number, record in minima.items()}
    for group in groups:
        for k, number in enumerate(group):
            for other in group[:k]:
                distance = float((points[other] - points[number]).norm())
                if distance <= same + open_[other] + open_[number]:
                    classes[number] = classes[other]
                    break
    return classes


def _open_distance(record: MinimumRecord) -> float:
    """How far a minimum may be from the exact one: the gradient norm up to which it counts as stationary over
    the lowest curvature; 0 where these are unknown."""
    lowest = min(record.eigenvalues, default=0.0)
    return record.gradient_tolerance / lowest if lowest > 0 else 0.0


def _point_of(store: Store, record: MinimumRecord) -> "Tensor":
    """The parameters of a minimum and the fixed tensors of its network, as one vector [m] in float64.

    Raises:
        Damaged: the minimum cannot be read.
    """
    import torch

    state = store.read_minimum(record.object)
    return torch.cat([tensor.double().flatten() for tensor in state.values()])


def _of_equal_loss(losses: Mapping[int, float]) -> list[list[int]]:
    """Groups of two or more minima with equal losses."""
    groups: list[list[int]] = []
    last = None
    for minimum in sorted(losses, key=lambda minimum: (losses[minimum], minimum)):
        loss = losses[minimum]
        if last is None or loss - last > max(EQUAL_LOSSES * abs(loss), NO_LOSS):
            groups.append([])
        groups[-1].append(minimum)
        last = loss
    return [sorted(group) for group in groups if len(group) > 1]


def _compared(
    plan: Plan,
    store: Store,
    minima: Mapping[int, MinimumRecord],
    groups: Sequence[Sequence[int]],
) -> dict[int, int]:
    """The classes of the minima in ``groups``."""
    import torch

    from topo_core.symmetries.network_symmetries import NetworkSymmetries
    from workers.problems.evaluation import Evaluation
    from workers.problems.loaded_problem import load_problem

    loaded = load_problem(plan.problem, Evaluation())
    symmetries = NetworkSymmetries.of(
        loaded.module, loaded.data.train_inputs, ridge=plan.problem.loss.ridge > 0
    )
    classes: dict[int, int] = {}
    for group in groups:
        points = torch.stack(
            [loaded.flat(store.read_minimum(minima[minimum].object)) for minimum in group]
        )
        # The losses in a group are equal up to rounding, so they are passed on as exactly equal.
        numbers = symmetries.copy_classes(points.double(), [0.0] * len(group), tolerance=SAME_POINT)
        classes |= {minimum: group[number] for minimum, number in zip(group, numbers, strict=True)}
    return classes
