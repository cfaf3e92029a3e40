"""Examples and their targets as tensors: what every source of data is converted to."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from workers.problems.input_layout import InputLayout, InputShape
from workers.problems.user_code import BadReference

_HASHED_ROWS = 4096
"""Number of rows that are copied at a time to compute a hash: memory-mapped data may be larger than the
memory."""


@dataclass(frozen=True)
class Dataset:
    """Examples and their targets, as tensors.

    Attributes:
        train_inputs, test_inputs: floating [n, ...], images normalised; text as int64 [n, context].
        train_targets, test_targets: int64 classes [n] or [n, t]; floating targets [n] or [n, m].
        classes: number of classes if it is known beforehand; 0 if it must be counted.
        layout: of several inputs that are packed into one tensor; None for one input.
        mapped: whether the training inputs are in a memory-mapped file, which may be larger than the memory.
        notes: what was chosen while reading a user's data; each is a clause that follows the function's name.
    """

    train_inputs: Tensor
    train_targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    classes: int
    layout: InputLayout | None = None
    mapped: bool = False
    notes: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the shapes, dtypes and bytes of all tensors."""
        total = hashlib.sha256()
        if self.layout is not None:
            total.update(repr(self.layout).encode())
        for tensor in self.tensors:
            total.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
            for rows in tensor.split(_HASHED_ROWS):
                total.update(rows.contiguous().numpy().tobytes())
        return total.hexdigest()

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Training inputs and targets, test inputs and targets."""
        return self.train_inputs, self.train_targets, self.test_inputs, self.test_targets

    @property
    def bytes(self) -> int:
        """Size of all tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors)

    @property
    def input_shape(self) -> InputShape:
        """Shape of one example; of several inputs a dict of shapes by name, or a tuple of them."""
        if self.layout is not None:
            return self.layout.input_shape
        return tuple(self.train_inputs.shape[1:])

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "Dataset":
        """The same data on a device, floating tensors in a dtype.

        Memory-mapped inputs of another dtype or for another device are read into memory.
        """

        def moved(tensor: Tensor) -> Tensor:
            if dtype is not None and tensor.is_complex():
                return tensor.to(device, dtype.to_complex())
            return tensor.to(device, dtype if tensor.is_floating_point() else None)

        data, notes = self.each(moved), self.notes
        if dtype is torch.float32:
            _check_range(self, data)
        kept = data.train_inputs is self.train_inputs
        if self.mapped and not kept and device.type == "cpu":
            stored, wanted = (
                str(t.dtype).removeprefix("torch.") for t in (self.train_inputs, data.train_inputs)
            )
            notes += (
                f"the memory-mapped train_inputs are {stored} and are read into memory as {wanted}; stored "
                f"as {wanted} they stay in their file",
            )
        return replace(data, mapped=self.mapped and kept, notes=notes)

    def each(self, change: Callable[[Tensor], Tensor]) -> "Dataset":
        """The same data with each tensor changed by a function."""
        train_inputs, train_targets, test_inputs, test_targets = map(change, self.tensors)
        return replace(
            self,
            train_inputs=train_inputs,
            train_targets=train_targets,
            test_inputs=test_inputs,
            test_targets=test_targets,
        )


def _check_range(stored: Dataset, read: Dataset) -> None:
    """Check that no number of float64 data is too large for float32.

    Raises:
        BadReference: the first tensor with such a number.
    """
    names = ("train_inputs", "train_targets", "test_inputs", "test_targets")
    for name, wide, narrow in zip(names, stored.tensors, read.tensors, strict=True):
        if wide.dtype is not torch.float64 or not narrow.numel() or bool(narrow.isfinite().all()):
            continue
        raise BadReference(
            f"the data have {name} with numbers up to {float(wide.abs().max()):.3g}, too large for float32: "
            "scale them, or set dtype: float64"
        )
