"""The examples in the minibatch of a step: an epoch visits each example once, in a random order."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from topo_core.objectives.protocol import Step
from topo_core.random_streams import generator

CHUNK = 1000
"""Number of examples in a chunk of a whole set: large enough for fast products, small enough for the cache.
With batch norm the loss depends on it."""


class Minibatches:
    """The minibatches of a training set of `count` examples.

    Args:
        count: number of examples.
        size: examples in a minibatch; the last one of an epoch may be smaller.
        smallest: smallest number of examples in a minibatch; a smaller remainder joins the minibatch before
            it. Batch norm needs two.
    """

    def __init__(self, count: int, size: int, *, smallest: int = 1) -> None:
        self._count, self.size, self._smallest = count, min(size, count), smallest
        self._order: tuple[tuple[tuple[int, int], ...], Tensor] | None = None

    def __len__(self) -> int:
        """Minibatches of an epoch."""
        return len(split_sizes(self._count, self.size, self._smallest))

    def examples(self, steps: Sequence[Step], device: torch.device) -> Tensor:
        """Indices [p, b] of the examples of p steps, which must have equal batch indices."""
        epochs = tuple((step.seed, step.epoch) for step in steps)
        if self._order is None or self._order[0] != epochs or self._order[1].device != device:
            draws = (generator(seed, "batch", epoch) for seed, epoch in epochs)
            orders = [torch.randperm(self._count, generator=draw) for draw in draws]
            self._order = epochs, torch.stack(orders).to(device)
        (batch,) = {step.batch for step in steps}
        first = batch * self.size
        last = self._count if batch == len(self) - 1 else first + self.size
        return self._order[1][:, first:last]


def split_sizes(count: int, size: int, smallest: int = 1) -> list[int]:
    """Sizes of consecutive parts of `count`; a remainder below `smallest` joins the part before it."""
    sizes = [size] * (count // size)
    rest = count % size
    if rest and (rest >= smallest or not sizes):
        sizes.append(rest)
    elif rest:
        sizes[-1] += rest
    return sizes


def chunks(
    inputs: Tensor, targets: Tensor, like: Tensor, smallest: int = 1
) -> Iterator[tuple[Tensor, Tensor]]:
    """A set in chunks of about `CHUNK` examples, one at a time on the device of the points.

    Chunks are the same wherever the set lies, so that sums over a set that is streamed from the host have
    the bits of sums over a set on the device.

    Args:
        inputs, targets: of the set, on any device or in a memory-mapped file.
        like: the points; chunks are on their device, and floating inputs have their dtype.
        smallest: smallest number of examples in a chunk.
    """
    sizes = split_sizes(len(inputs), CHUNK, smallest)
    for x, y in zip(inputs.split(sizes), targets.split(sizes), strict=True):
        yield handed(x, like), moved(y, like.device)


def handed(inputs: Tensor, like: Tensor) -> Tensor:
    """Inputs on the device of the points `like`; floating ones in their dtype, complex ones in the complex
    dtype of their precision."""
    rows = moved(inputs, like.device)
    if rows.is_complex():
        return rows.to(like.dtype.to_complex())
    return rows.to(like.dtype) if rows.is_floating_point() else rows


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; the copy of a pinned one runs beside the work that is queued already."""
    if tensor.device == device:
        return tensor
    return tensor.to(device, non_blocking=tensor.is_pinned())
