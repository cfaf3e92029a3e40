"""Check that data and networks are equal in all processes, and that the code is the one the run was planned
with.

Every worker builds the network itself. Every start of a run loads the data, and so does a worker that cannot
get them from the driver. If a `load()` or a builder drew random numbers without
a fixed seed, each worker would have another loss, and the barcode would combine results of different
functions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from workers.problems.checkpoints import fixed_state_digest
from workers.problems.compatibility import output_size
from workers.problems.data_sets import load_dataset
from workers.problems.dataset import Dataset
from workers.problems.loss_functions import loss_fingerprint, make_loss
from workers.problems.network_state import NetworkState
from workers.problems.networks import build, network_fingerprint
from workers.problems.user_code import BadReference
from workers.tasks.problem import Problem
from workers.tasks.specs import DataSpec, LossSpec, NetworkSpec


def load_twice(spec: DataSpec) -> Dataset:
    """The data of a spec; those of a user's function are loaded twice and compared.

    Raises:
        BadReference: they are missing, or differ between two loads; one sentence.
    """
    data = load_dataset(spec)
    if ":" in spec.name and load_dataset(spec).fingerprint != data.fingerprint:
        raise BadReference(
            f"data.name {spec.name!r} returns other data when it is called again, so a resumed run would "
            "have another loss: draw from a generator with a fixed seed that the function makes"
        )
    return data


def fixed_state_of(
    network: NetworkSpec,
    loss: LossSpec,
    data: Dataset,
    checkpoints: Sequence[str],
    dtype: torch.dtype | None = None,
) -> str:
    """Digest of the frozen parameters and buffers of the first checkpoint; empty for none.

    Args:
        network, loss, data: of the run.
        checkpoints: locations.
        dtype: of the parameters of the run.

    Raises:
        BadReference: a checkpoint cannot be read or does not fit, or the network cannot be built.
    """
    if not checkpoints:
        return ""
    module = build(network, data.input_shape, output_size(data, make_loss(loss)))
    return fixed_state_digest(checkpoints[0], module, dtype)


def check_builder(problem: Problem, data: Dataset, *, trains: bool) -> None:
    """Check that a user's builder returns equal networks for equal seeds, and other weights for other seeds.

    Args:
        problem: whose network is built.
        data: of the problem.
        trains: whether several minima are trained from initial weights.

    Raises:
        BadReference: equal seeds give different networks; or, if `trains`, different seeds give equal
            weights.
    """
    name = problem.network.name
    if ":" not in name or name.startswith("torchvision:"):
        return
    outputs = output_size(data, make_loss(problem.loss))
    first, again, other = (
        build(problem.network, data.input_shape, outputs, seed) for seed in (0, 0, 1)
    )
    if not _equal(first, again):
        raise BadReference(
            f"network.name {name!r} builds other weights or buffers when it is called again: draw them by "
            "torch, numpy or random, which are seeded, and not from a generator that outlives the call"
        )
    kinds = NetworkState.of(first)
    weights = [
        {n: v for n, v in module.state_dict().items() if n in kinds.trainable}
        for module in (first, other)
    ]
    if trains and _same(*weights):
        raise BadReference(
            f"network.name {name!r} has the same initial weights for every seed (does it call "
            "manual_seed, or load weights?), so all trained minima would be one: let it draw them, or name "
            "checkpoints in minima.from"
        )


def check_identity(problem: Problem, data: Dataset) -> None:
    """Check that a worker has the data and the code that the run was planned with.

    Raises:
        BadReference: they differ; one sentence.
    """
    again = "start the run again with the data and code as they are now"
    if data.fingerprint != problem.data_fingerprint:
        raise BadReference(
            f"data.name {problem.data.name!r} gives other data in this worker than when the run was "
            f"planned: {again}, or put back what they were"
        )
    if network_fingerprint(problem.network) != problem.network_fingerprint:
        raise BadReference(
            f"the code of network.name {problem.network.name!r} has changed since the run was planned: "
            f"{again}"
        )
    if loss_fingerprint(problem.loss) != problem.loss_fingerprint:
        raise BadReference(
            f"the code of loss.name {problem.loss.name!r} has changed since the run was planned: {again}"
        )


def _equal(first: nn.Module, second: nn.Module) -> bool:
    return _same(
        {**first.state_dict(), **dict(first.named_buffers())},
        {**second.state_dict(), **dict(second.named_buffers())},
    )


def _same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    tensors = [(v, second.get(n)) for n, v in first.items() if isinstance(v, Tensor)]
    return all(other is not None and torch.equal(value, other) for value, other in tensors)
