"""Losses by name."""

from collections.abc import Callable, Mapping

from topo_core.objectives.losses.classification import BinaryCrossEntropy, NegativeLogLikelihood
from topo_core.objectives.losses.cross_entropy import CrossEntropy
from topo_core.objectives.losses.outputs import Outputs
from topo_core.objectives.losses.protocol import Loss
from topo_core.objectives.losses.regression import AbsoluteError, Huber, Poisson
from topo_core.objectives.losses.squared_error import SquaredError

LOSSES: Mapping[str, Callable[..., Loss]] = {
    "cross_entropy": CrossEntropy,
    "mse": SquaredError,
    "mae": AbsoluteError,
    "huber": Huber,
    "bce": BinaryCrossEntropy,
    "nll": NegativeLogLikelihood,
    "poisson": Poisson,
    "outputs": Outputs,
}
"""The class that makes a loss from its options, by the name in a run file."""
