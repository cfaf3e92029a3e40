"""A user's checkpoints: read without running what they hold, and compared with the network."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from workers.problems.network_state import NetworkState
from workers.problems.user_code import BadReference


def read_state_dict(location: str) -> Mapping[str, Tensor]:
    """A state dict from `.safetensors`, or from a `.pt` file without running what it holds.

    Raises:
        BadReference: not readable, or no state dict.
    """
    # Imported here: a run without checkpoints, such as the GPU benchmark, needs torch alone.
    import safetensors.torch

    path = Path(location)
    try:
        if path.suffix == ".safetensors":
            state: dict[str, Tensor] = safetensors.torch.load_file(path)
            return state
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BadReference(
            f"minima.from names {location}, which cannot be read ({error.strerror or error})"
        ) from None
    except (safetensors.SafetensorError, RuntimeError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadReference(
            f"minima.from names {location}, which is not a readable checkpoint: {reason}"
        ) from None
    except Exception as error:  # unpickling of anything but weights is refused by torch
        raise BadReference(
            f"minima.from names {location}, which holds more than weights "
            f"({type(error).__name__}): save the state_dict() alone"
        ) from None
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise BadReference(f"minima.from names {location}, which is no state dict: save one")
    return loaded


def check_state_dict(location: str, state: Mapping[str, Tensor], module: nn.Module) -> None:
    """Compare names, shapes and dtypes with the network's, and see that all numbers are finite.

    Batch-norm statistics that are recomputed may be missing, and all but one name of tied tensors.

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
        if own.dtype != tensor.dtype:
            raise BadReference(
                f"minima.from: {location} has {name} of {own.dtype}, and the network has "
                f"{tensor.dtype}: convert the checkpoint"
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
    """See that a checkpoint has the fixed state of the problem, which comes from the checkpoint `first`.

    Raises:
        BadReference: it has another one.
    """
    kinds = NetworkState.of(module)
    if kinds.digest(kinds.complete(state)) != digest:
        raise BadReference(
            f"minima.from: {location} and {first} differ in {', '.join(kinds.fixed)}, which no training "
            "changes, so they lie on different landscapes: name checkpoints with equal buffers and frozen "
            "parameters"
        )


def load_fixed_state(location: str, module: nn.Module, digest: str) -> None:
    """Copy the frozen parameters and buffers of a checkpoint into a network.

    Raises:
        BadReference: the checkpoint cannot be read, does not fit, or is not what it was.
    """
    state = read_state_dict(location)
    check_state_dict(location, state, module)
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


def fixed_state_digest(location: str, module: nn.Module) -> str:
    """Digest of the frozen parameters and buffers in a checkpoint; empty for a network without any.

    Raises:
        BadReference: the checkpoint cannot be read or does not fit.
    """
    kinds = NetworkState.of(module)
    if not kinds.fixed:
        return ""
    state = read_state_dict(location)
    check_state_dict(location, state, module)
    return kinds.digest(kinds.complete(state))
