"""Pack several inputs of a network, such as token ids and a mask, into one tensor.

All code between the data and the network (minibatches, chunks, devices) then handles one tensor [n, f]. A
hook of the network unpacks it before the forward pass. Packing is exact: integers that are packed with
floating inputs are at most 2^24, which float32 represents exactly.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workers.problems.user_code import BadReference

InputShape = tuple[int, ...] | tuple[tuple[int, ...], ...] | dict[str, tuple[int, ...]]
"""Shape of one example: a tuple for one input; for several inputs, a tuple of shapes or a dict by name."""

LARGEST_BESIDE_FLOATS = 2**24
"""Float32 represents all integers up to this one exactly."""


@dataclass(frozen=True)
class InputLayout:
    """How several inputs are packed into one row.

    Attributes:
        names: keywords of the network's forward; None if the inputs are positional.
        shapes: of one example of each input.
        dtypes: of the integer and boolean inputs; None for floating ones, which take the dtype of the run.
    """

    names: tuple[str, ...] | None
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype | None, ...]

    @classmethod
    def of(cls, inputs: Mapping[str, Tensor] | Sequence[Tensor]) -> "InputLayout":
        """The layout of inputs [n, ...], by name or in order."""
        names = tuple(inputs) if isinstance(inputs, Mapping) else None
        tensors = _tensors(inputs)
        return cls(
            names,
            tuple(tuple(tensor.shape[1:]) for tensor in tensors),
            tuple(None if t.is_floating_point() else t.dtype for t in tensors),
        )

    @property
    def input_shape(self) -> InputShape:
        """Shapes of one example, as the inputs were given: a dict by name, or a tuple."""
        return (
            self.shapes if self.names is None else dict(zip(self.names, self.shapes, strict=True))
        )

    def pack(self, inputs: Mapping[str, Tensor] | Sequence[Tensor]) -> Tensor:
        """The inputs as one tensor [n, f]: int64 if no input is floating, else of the widest dtype.

        Raises:
            BadReference: an integer beside floating inputs is too large; one sentence.
        """
        tensors = _tensors(inputs)
        floating = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
        dtype = torch.int64
        for other in floating:
            dtype = other if dtype is torch.int64 else torch.promote_types(dtype, other)
        if floating:
            whole = [tensor.long().abs() for tensor in tensors if not tensor.is_floating_point()]
            largest = max((int(numbers.max()) for numbers in whole if numbers.numel()), default=0)
            if largest > LARGEST_BESIDE_FLOATS:
                raise BadReference(
                    f"the inputs hold the integer {largest} beside floating inputs; make integers there "
                    f"{LARGEST_BESIDE_FLOATS} at most"
                )
        return torch.cat([t.reshape(len(t), -1).to(dtype) for t in tensors], dim=1)

    def unpack(self, rows: Tensor) -> list[Tensor]:
        """The inputs [n, ...] in rows [n, f]; floating ones in the dtype of the rows."""
        parts = rows.split([math.prod(shape) for shape in self.shapes], dim=1)
        return [
            (part if dtype is None else part.to(dtype)).reshape(len(rows), *shape)
            for part, shape, dtype in zip(parts, self.shapes, self.dtypes, strict=True)
        ]


@dataclass(frozen=True)
class UnpackInputs:
    """A forward pre-hook: calls the network with the inputs that are packed in one tensor."""

    layout: InputLayout

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments and keywords of the network's forward."""
        del module
        inputs = self.layout.unpack(args[0])
        if self.layout.names is None:
            return tuple(inputs), kwargs
        return (), dict(zip(self.layout.names, inputs, strict=True))


def _tensors(inputs: Mapping[str, Tensor] | Sequence[Tensor]) -> list[Tensor]:
    return list(inputs.values() if isinstance(inputs, Mapping) else inputs)
