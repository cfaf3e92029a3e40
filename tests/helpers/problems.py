"""Problems as a plan makes them, with the fingerprints of their data and code."""

from workers.problems.data_sets import load_dataset
from workers.problems.loss_functions import loss_fingerprint
from workers.problems.networks import network_fingerprint
from workers.tasks.problem import Problem
from workers.tasks.specs import DataSpec, LossSpec, NetworkSpec


def problem_of(network, data, loss=None, **others):
    """The problem of the mappings of a run file."""
    network, data = NetworkSpec.parse(network), DataSpec.parse(data)
    loss = LossSpec.parse(loss) if loss else LossSpec()
    return Problem(
        network,
        data,
        load_dataset(data).fingerprint,
        network_fingerprint(network),
        loss=loss,
        loss_fingerprint=loss_fingerprint(loss),
        **others,
    )
