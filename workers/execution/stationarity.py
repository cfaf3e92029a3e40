"""Polishing trained points to stationary points, and classifying points.

Both take exact gradients over the whole training set in float64. A gradient costs one pass over the data, so
networks and data sets beyond `LARGEST` are neither polished nor judged unless the run asks for it.
"""

from torch import Tensor

from topo_core.critical_points.classification import classify_point
from topo_core.critical_points.verdicts import CriticalPoint
from workers.problems.loaded_problem import Loaded
from workers.tasks.minimum_settings import MinimumSettings

LARGEST = 10**8
"""Training examples times parameters, up to which a point is judged, and polished by `polish: auto`.

A judgement takes some tens of passes over the data and a polish some hundreds to thousands, where a training
has 60 by default. Up to this size a pass takes 0.05 s or less on a core, so both take seconds.
"""
BATCH_NORM = 10
"""Cost of derivatives with batch norm in those without: three passes a gradient, two gradients a product."""


def is_small(loaded: Loaded) -> bool:
    """Whether a point of the problem is judged, and polished by `polish: auto`."""
    factor = BATCH_NORM if loaded.state.statistics else 1
    return factor * len(loaded.data.train_inputs) * loaded.dimension <= LARGEST


def is_polished(settings: MinimumSettings, loaded: Loaded) -> bool:
    """Whether a trained point is polished to a stationary point.

    `auto` polishes where the loss has a ridge: without one the infimum of cross entropy is at infinity,
    and no polish would end.
    """
    if settings.polish == "auto":
        return loaded.problem.loss.ridge > 0 and is_small(loaded)
    return settings.polish == "on"


def judge(loaded: Loaded, point: Tensor, *, seed: int) -> CriticalPoint | None:
    """The classification of a point [d]; None where it would be too expensive."""
    if not is_small(loaded):
        return None
    objective = loaded.objective(len(loaded.data.train_inputs))
    return classify_point(objective, point.double(), seed=seed)
