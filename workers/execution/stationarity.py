"""Polishing trained points to stationary points, and classifying points.

Both use exact gradients over the whole training set in float64, and a gradient costs one pass over the data.
So a problem larger than `LARGEST` is not classified, and is polished only with `polish: on`.
"""

from torch import Tensor

from topo_core.critical_points.classification import Tangents, classify_point
from topo_core.critical_points.verdicts import CriticalPoint
from topo_core.objectives.protocol import Objective
from topo_core.symmetries.continuous import network_tangents
from workers.problems.loaded_problem import LoadedProblem
from workers.tasks.minimum_settings import MinimumSettings

LARGEST = 10**8
"""Largest product of training examples and parameters for which a point is classified, and polished with
`polish: auto`.

A classification takes some tens of passes over the data, a polish hundreds to thousands; a training takes 60
by default. Up to this size a pass takes at most 0.05 s on one core: a classification takes seconds, and a
polish seconds to minutes.
"""
BATCH_NORM = 10
"""Factor by which batch norm makes exact derivatives more expensive. With it a gradient takes three passes
over the data, and a Hessian-vector product two such gradients."""


def is_small(loaded: LoadedProblem) -> bool:
    """Whether points of the problem are classified, and polished with `polish: auto`."""
    factor = BATCH_NORM if loaded.state.statistics else 1
    return factor * len(loaded.data.train_inputs) * loaded.dimension <= LARGEST


def is_polished(settings: MinimumSettings, loaded: LoadedProblem) -> bool:
    """Whether a trained point is polished to a stationary point.

    With `auto`, a point is polished if the loss has a ridge and the problem is small. Without a ridge, cross
    entropy may have its infimum at infinity, where no polish converges. With `small`, the size alone decides.
    """
    if settings.polish == "small":
        return is_small(loaded)
    if settings.polish == "auto":
        return loaded.problem.loss.ridge > 0 and is_small(loaded)
    return settings.polish == "on"


def judge(loaded: LoadedProblem, point: Tensor, *, seed: int) -> CriticalPoint | None:
    """The classification of a point [d]; None if the problem is too large.

    Args:
        loaded: the problem.
        point: [d], of any floating dtype.
        seed: of the random directions.
    """
    if not is_small(loaded):
        return None
    objective = loaded.objective(len(loaded.data.train_inputs))
    symmetries = loss_tangents(loaded, objective)
    return classify_point(objective, loaded.exact(point), symmetries=symmetries, seed=seed)


def loss_tangents(loaded: LoadedProblem, objective: Objective) -> Tangents:
    """The continuous symmetries of the training loss `objective`; see `network_tangents`."""
    # All examples are read at once; streamed ones may be larger than the memory.
    inputs = None if loaded.placement.streamed else loaded.data.train_inputs
    return network_tangents(loaded.module, objective, inputs)
