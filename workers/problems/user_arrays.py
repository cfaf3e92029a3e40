"""Convert a user's array, of any library, to a tensor: floating, complex or int64."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from workers.problems.user_code import BadReference, first_line

T = TypeVar("T")


def is_array(value: Any) -> bool:
    """Whether a value is a tensor, an array of any library, or a list of numbers or rows."""
    if isinstance(value, Tensor | np.ndarray):
        return True
    if isinstance(value, list | tuple):
        return len(value) > 0 and not isinstance(value[0], dict)
    return any(hasattr(value, name) for name in ("to_numpy", "__array__", "toarray"))


def tensor_of(name: str, part: str, value: Any, *, truths: bool = False) -> Tensor:
    """A value as a tensor [n, ...] without gradient: floating, complex, or int64.

    A memory-mapped array stays in its file; everything else is copied.

    Args:
        name: of the user's function, for messages.
        part: which part of the data it is: `train_inputs`.
        value: an array.
        truths: whether booleans stay booleans and are not converted to int64.

    Raises:
        BadReference: the value is no array of numbers, has no axis of examples, or contains NaN or infinity.
    """
    tensor = _tried(name, part, value, _converted)
    if tensor.ndim == 0:
        raise BadReference(
            f"data.name {name!r} returns {part} as a single number; return one row for each example"
        )
    if not (tensor.is_floating_point() or tensor.is_complex()):
        if truths and tensor.dtype is torch.bool:
            return tensor
        whole = tensor.long()
        if tensor.dtype is torch.uint64 and bool((whole < 0).any()):
            raise BadReference(
                f"data.name {name!r} returns {part} with integers above 2^63 - 1: make them smaller"
            )
        return whole
    if not len(tensor):
        return tensor
    finite = torch.cat(
        [rows.isfinite().flatten(1).all(1) for rows in tensor[..., None].split(4096)]
    )
    if not bool(finite.all()):
        wrong = (~finite).nonzero().flatten()
        raise BadReference(
            f"data.name {name!r} returns {part} with NaN or infinite numbers, {len(wrong)} rows of "
            f"{len(tensor)}, the first is row {int(wrong[0])}: leave these examples out or fill them in"
        )
    return tensor


def array_of(name: str, part: str, value: Any) -> np.ndarray[Any, Any]:
    """A value as a numpy array of any dtype, text and objects included.

    Raises:
        BadReference: it is no array; one sentence.
    """
    return _tried(name, part, value, _numpy)


def _tried(name: str, part: str, value: Any, convert: Callable[[Any], T]) -> T:
    try:
        return convert(value)
    except Exception as error:  # the value's own library may raise anything
        reason = first_line(error)
        raise BadReference(
            f"data.name {name!r} returns {part} as {type(value).__name__}, which cannot be made a "
            f"tensor: {reason}"
        ) from None


def _numpy(value: Any) -> np.ndarray[Any, Any]:
    if isinstance(value, Tensor):
        return _of_tensor(value).numpy()
    if hasattr(value, "toarray"):  # sparse matrices of SciPy
        value = value.toarray()
    elif hasattr(value, "to_numpy"):  # pandas, polars
        value = value.to_numpy()
    elif isinstance(value, list | tuple) and value and isinstance(value[0], Tensor):
        return torch.stack([_of_tensor(row) for row in value]).numpy()
    if np.ma.is_masked(value):
        raise ValueError("some of its values are masked: leave these examples out or fill them in")
    try:
        array = np.asarray(value)
    except ValueError as error:
        if "inhomogeneous" in str(error):
            raise ValueError("its rows have different lengths") from None
        raise
    if array.dtype == object and array.ndim == 1 and len(array):
        rows = [_numpy(row) if is_array(row) else np.asarray(row) for row in array]
        if all(row.ndim and row.shape == rows[0].shape and row.dtype != object for row in rows):
            array = np.stack(rows)  # a column of a table whose cells are arrays
    return array


def is_mapped(values: Tensor | np.ndarray[Any, Any]) -> bool:
    """Whether values are in a memory-mapped file, by whatever library it was mapped.

    This is read from the memory map of the process; on systems without /proc only maps of numpy are
    recognised.
    """
    if isinstance(values, np.memmap):
        return True
    if isinstance(values, Tensor):
        if values.layout is not torch.strided or values.device.type != "cpu":
            return False
        address = values.data_ptr()
    else:
        address = values.ctypes.data
    try:
        lines = Path("/proc/self/maps").read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    for line in lines:
        # first-last permissions offset device inode path
        bounds, _, _, _, inode, *path = line.split(maxsplit=5)
        first, last = (int(bound, 16) for bound in bounds.split("-"))
        if first <= address < last:
            return inode != "0" and bool(path) and not path[0].startswith("/dev/")
    return False


def _converted(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        tensor = _of_tensor(value)
        shared = value.layout is torch.strided and tensor.data_ptr() == value.data_ptr()
        stays = shared and tensor.is_contiguous() and is_mapped(tensor)
        return tensor.clone() if shared and not stays else tensor
    array = _numpy(value)
    if array.dtype == object:
        if array.size and all(isinstance(item, str) for item in array.flat):
            array = array.astype(str)
        elif array.size and all(item is None or np.isscalar(item) for item in array.flat):
            raise ValueError("it holds values that are no numbers (missing ones?)")
        else:
            raise ValueError("its rows have different lengths, or are no numbers")
    if array.dtype.kind in "US":
        shown = repr(str(array.flat[0])) if array.size else "none"
        raise ValueError(
            f"it holds text ({shown}): return numbers, or let data.labels: map number "
            "the classes of targets"
        )
    if array.dtype.kind in "mM":
        raise ValueError("it holds dates or durations: return numbers")
    if array.dtype.byteorder not in ("=", "|"):
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    if array.flags["C_CONTIGUOUS"] and is_mapped(array):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            return torch.from_numpy(array)
    return torch.from_numpy(np.array(array, order="C", copy=True, subok=False))


def _of_tensor(value: Tensor) -> Tensor:
    """A dense tensor on the CPU without gradient, of a dtype that numpy has."""
    tensor = value.detach().cpu()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_floating_point() and tensor.dtype not in (
        torch.float16,
        torch.float32,
        torch.float64,
    ):
        tensor = tensor.float()  # bfloat16, float8
    return tensor.resolve_conj().resolve_neg()
