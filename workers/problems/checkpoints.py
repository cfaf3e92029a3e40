"""Compare a user's checkpoints with the network, and read fixed state from them."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from workers.problems.checkpoint_files import read_checkpoint
from workers.problems.network_state import NetworkState
from workers.problems.user_code import BadReference


def check_state_dict(
    location: str, state: Mapping[str, Tensor], module: nn.Module, dtype: torch.dtype | None = None
) -> None:
    """Compare names, shapes and dtypes with the network's, and check that all numbers are finite.

    Batch-norm statistics that are recomputed may be missing. Of the names of a tied tensor, one is enough.

    Args:
        location: of the checkpoint, for messages.
        state: its tensors.
        module: the network as its builder makes it.
        dtype: of the parameters of the run. Floating tensors of this dtype are accepted too, so that a
            minimum that was exported from a run in float64 fits that run.

    Raises:
        BadReference: the first mismatch.
    """
    wanted = module.state_dict()
    kinds = NetworkState.of(module)
    complete = kinds.complete(state)
    for name, tensor in wanted.items():
        if not isinstance(tensor, Tensor):
            continue
        if name not in complete:
            if name in kinds.statistics:
                continue
            raise BadReference(f"minima.from: {location} has no {name}, which the network has")
        own = complete[name]
        if own.shape != tensor.shape:
            raise BadReference(
                f"minima.from: {location} has {name} of shape {tuple(own.shape)}, and the "
                f"network has {tuple(tensor.shape)}"
            )
        allowed = {tensor.dtype, dtype if tensor.is_floating_point() else None}
        if own.dtype not in allowed:
            raise BadReference(
                f"minima.from: {location} has {name} of {own.dtype}, and the network has "
                f"{tensor.dtype}: convert the checkpoint{_wider(own.dtype, tensor.dtype)}"
            )
        if name not in kinds.statistics and not bool(own.isfinite().all()):
            raise BadReference(
                f"minima.from: {location} has NaN or infinite numbers in {name}: take an earlier "
                "checkpoint of that training"
            )
    for name in state:
        if name not in wanted:
            raise BadReference(f"minima.from: {location} has {name}, which the network has not")
    for other, name in kinds.ties.items():
        if name in state and other in state and not torch.equal(state[name], state[other]):
            raise BadReference(
                f"minima.from: {location} has different values for {name} and {other}, which are one "
                "tensor in the network: save it from the network that ties them"
            )


def check_fixed_state(
    location: str, state: Mapping[str, Tensor], module: nn.Module, digest: str, first: str
) -> None:
    """Check that a checkpoint has the fixed state (frozen parameters and buffers) of the problem.

    Args:
        location: of the checkpoint, for messages.
        state: its tensors.
        module: the network.
        digest: of the fixed state of the problem.
        first: location of the checkpoint that this fixed state was read from, for messages.

    Raises:
        BadReference: the checkpoint has another fixed state.
    """
    kinds = NetworkState.of(module)
    if kinds.digest(kinds.complete(state)) != digest:
        raise BadReference(
            f"minima.from: {location} and {first} differ in {', '.join(kinds.fixed)}, which no training "
            "changes, so they lie on different landscapes: name checkpoints with equal buffers and frozen "
            "parameters"
        )


def load_fixed_state(
    location: str, module: nn.Module, digest: str, dtype: torch.dtype | None = None
) -> None:
    """Copy the frozen parameters and buffers of a checkpoint into a network.

    Args:
        location: of the checkpoint.
        module: the network, in the dtypes of its builder.
        digest: that the fixed state had when the run was planned.
        dtype: of the parameters of the run, see ``check_state_dict``.

    Raises:
        BadReference: the checkpoint cannot be read, does not fit, or has changed since the plan.
    """
    state = read_checkpoint(location, module).state
    check_state_dict(location, state, module, dtype)
    kinds = NetworkState.of(module)
    complete = kinds.complete(state)
    if kinds.digest(complete) != digest:
        raise BadReference(
            f"minima.from: {location} has other buffers or frozen parameters than when the run was planned"
        )
    own = module.state_dict()
    with torch.no_grad():
        for name in kinds.fixed:
            own[name].copy_(complete[name])


def fixed_state_digest(location: str, module: nn.Module, dtype: torch.dtype | None = None) -> str:
    """Digest of the frozen parameters and buffers in a checkpoint; empty for a network without any.

    Args:
        location: of the checkpoint.
        module: the network, in the dtypes of its builder.
        dtype: of the parameters of the run, see ``check_state_dict``.

    Raises:
        BadReference: the checkpoint cannot be read or does not fit.
    """
    kinds = NetworkState.of(module)
    if not kinds.fixed:
        return ""
    state = read_checkpoint(location, module).state
    check_state_dict(location, state, module, dtype)
    return kinds.digest(kinds.complete(state))


def _wider(stored: torch.dtype, wanted: torch.dtype) -> str:
    """A hint for messages about double precision; empty for other dtypes."""
    if (stored, wanted) != (torch.float64, torch.float32):
        return ""
    return ", or build the network in float64 and set dtype: float64"
