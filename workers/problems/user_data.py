"""What a user's `load()` returns, as four tensors."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from workers.problems.user_code import BadReference

PARTS = ("train_inputs", "train_targets", "test_inputs", "test_targets")


def parts_of(name: str, returned: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training inputs and targets, test inputs and targets.

    Args:
        name: of the function, for messages.
        returned: by the function: four arrays, or two pairs of them.

    Raises:
        BadReference: something else, or parts that do not fit together; one sentence.
    """
    if _are_two_pairs(returned):
        returned = (*returned[0], *returned[1])
    if not isinstance(returned, tuple | list) or len(returned) != 4:
        raise BadReference(
            f"data.name {name!r} must return train_inputs, train_targets, test_inputs, "
            f"test_targets; it returns {type(returned).__name__}"
        )
    tensors = [_tensor(name, part, value) for part, value in zip(PARTS, returned, strict=True)]
    train_inputs, train_targets, test_inputs, test_targets = tensors
    for inputs, targets, part in (
        (train_inputs, train_targets, "train"),
        (test_inputs, test_targets, "test"),
    ):
        if len(inputs) != len(targets) or not len(inputs):
            raise BadReference(
                f"data.name {name!r} returns {len(inputs)} {part} inputs and {len(targets)} "
                f"{part} targets; return as many, and at least one"
            )
    for first, second, what in (
        (train_inputs, test_inputs, "inputs"),
        (train_targets, test_targets, "targets"),
    ):
        if first.shape[1:] != second.shape[1:]:
            raise BadReference(
                f"data.name {name!r} returns train_{what} of shape {tuple(first.shape)} and test_{what} "
                f"of shape {tuple(second.shape)}; an example must have one shape in both"
            )
        if first.is_floating_point() != second.is_floating_point():
            raise BadReference(
                f"data.name {name!r} returns train_{what} of {first.dtype} and test_{what} of "
                f"{second.dtype}; return the same kind of numbers in both"
            )
    return train_inputs, train_targets, test_inputs, test_targets


def _are_two_pairs(returned: Any) -> bool:
    """Whether it is (train_inputs, train_targets), (test_inputs, test_targets)."""
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        return False
    return all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in returned)


def _tensor(name: str, part: str, value: Any) -> Tensor:
    """One part as a tensor of its own: floating, or int64.

    Raises:
        BadReference: it is no array of numbers, has no examples, or holds NaN.
    """
    try:
        tensor = _converted(value)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadReference(
            f"data.name {name!r} returns {part} as {type(value).__name__}, which cannot be made a "
            f"tensor: {reason}"
        ) from None
    if tensor.ndim == 0:
        raise BadReference(
            f"data.name {name!r} returns {part} as one number; return one an example"
        )
    if tensor.is_complex():
        return tensor
    if not tensor.is_floating_point():
        return tensor.long()
    wrong = ~tensor.isfinite().flatten(1).all(1) if tensor.ndim > 1 else ~tensor.isfinite()
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0, 0])
        raise BadReference(
            f"data.name {name!r} returns {part} with NaN or infinite numbers, {int(wrong.sum())} rows of "
            f"{len(tensor)}, the first is row {row}: leave these examples out or fill them in"
        )
    return tensor


def _converted(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        tensor = value.detach().cpu()
        tensor = tensor.to_dense() if tensor.is_sparse else tensor
        return tensor.float() if tensor.dtype is torch.bfloat16 else tensor
    if hasattr(value, "to_numpy"):  # pandas
        value = value.to_numpy()
    array = np.asarray(value)
    if array.dtype == object:
        raise ValueError("its rows have different lengths, or are no numbers")
    if array.dtype.byteorder not in ("=", "|"):
        array = array.astype(array.dtype.newbyteorder("="))
    return torch.from_numpy(np.ascontiguousarray(array).copy())
