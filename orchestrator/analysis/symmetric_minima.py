"""Which minima of a run are copies of each other under the exact symmetries of its network.

Copies have equal losses, so only minima of equal loss are compared, and only then are weights read
and the network built. The network and the data must have names of this program: code that a store
names is not run to read it.
"""

from collections.abc import Mapping, Sequence

from orchestrator.planning.plan import Plan
from workers.problems.user_code import BadReference
from workers.storage.run_store import Damaged, Store
from workers.storage.schema import MinimumRecord

EQUAL_LOSSES = 1e-6
"""Relative difference of two losses up to which weights are compared: float32 rounding of a mean."""

SAME_POINT = 1e-3
"""Distance of a minimum and a copy, as a share of the norm, up to which they are one.

A minimum polished in float32 lies within about sqrt(1e-7) of the exact one. Different minima of one
loss are farther apart by orders of magnitude.
"""


def classes_of_copies(
    plan: Plan, store: Store, minima: Mapping[int, MinimumRecord]
) -> dict[int, int] | None:
    """For each minimum the number of the first minimum that it is a copy of.

    Args:
        plan: of the run.
        store: of the run.
        minima: of the run, by number.

    Returns:
        None where copies cannot be recognised: a network or data of a user's own, weights that are
        missing, or a layer whose units cannot be followed.
    """
    classes = {minimum: minimum for minimum in minima}
    groups = _of_equal_loss({number: record.loss for number, record in minima.items()})
    if not groups:
        return classes
    problem = plan.problem
    if ":" in problem.network.name or ":" in problem.data.name:
        return None
    try:
        compared = _compared(plan, store, minima, groups)
    except (BadReference, Damaged, KeyError, ValueError):
        return None
    return None if compared is None else {**classes, **compared}


def _of_equal_loss(losses: Mapping[int, float]) -> list[list[int]]:
    """The minima in groups of equal loss, without those that have a loss of their own."""
    groups: list[list[int]] = []
    last = None
    for minimum in sorted(losses, key=lambda minimum: (losses[minimum], minimum)):
        loss = losses[minimum]
        if last is None or loss - last > EQUAL_LOSSES * abs(loss):
            groups.append([])
        groups[-1].append(minimum)
        last = loss
    return [sorted(group) for group in groups if len(group) > 1]


def _compared(
    plan: Plan,
    store: Store,
    minima: Mapping[int, MinimumRecord],
    groups: Sequence[Sequence[int]],
) -> dict[int, int] | None:
    """The classes of the minima in ``groups``; None where some parameters are not trained."""
    import torch

    from topo_core.critical_points.symmetric_copies import NetworkSymmetries
    from workers.problems.evaluation import Evaluation
    from workers.problems.loaded_problem import load_problem

    loaded = load_problem(plan.problem, Evaluation())
    symmetries = NetworkSymmetries.of(loaded.module, ridge=plan.problem.loss.ridge > 0)
    classes: dict[int, int] = {}
    for group in groups:
        points = torch.stack(
            [loaded.flat(store.read_minimum(minima[minimum].object)) for minimum in group]
        )
        if points.shape[1] != sum(parameter.numel() for parameter in loaded.module.parameters()):
            return None
        # Within a group the losses are equal up to rounding, which is not to be judged again.
        numbers = symmetries.copy_classes(points.double(), [0.0] * len(group), tolerance=SAME_POINT)
        classes |= {minimum: group[number] for minimum, number in zip(group, numbers, strict=True)}
    return classes
