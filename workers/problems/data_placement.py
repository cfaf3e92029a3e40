"""Where the data of a run lie: on the device, on the host, or in a memory-mapped file.

Data that do not fit into the memory of the device stay on the host. Their chunks and minibatches are moved to
the device when they are used, and are the same ones, so that losses and gradients have the same bits. This
module does not import torch.
"""

from dataclasses import dataclass

DEVICE_SHARE = 0.4
"""Largest fraction of the free memory of a device that the data may use. A quarter of the memory is for the
tensors of paths and another one for activations (`topo_core.objectives.batching.memory_budget`)."""


@dataclass(frozen=True)
class Placement:
    """Where the data lie, and why.

    Attributes:
        data_bytes: size of all inputs and targets.
        free_bytes: free memory of the device; None on a CPU, which computes where the data lie.
        mapped: whether the inputs are in a memory-mapped file.
        streamed: whether only chunks and minibatches are copied, and never the whole data.
    """

    data_bytes: int
    free_bytes: int | None
    mapped: bool
    streamed: bool


def placement_of(
    data_bytes: int, free_bytes: int | None, *, mapped: bool, share: float = DEVICE_SHARE
) -> Placement:
    """Decide whether data are streamed.

    On a CPU that is so for memory-mapped data, which may be larger than the memory. On another device it is
    so for data that need more than a share of its free memory, memory-mapped or not.

    Args:
        data_bytes: size of the data.
        free_bytes: free memory of the device; None on a CPU.
        mapped: whether the data are in a memory-mapped file.
        share: largest fraction of the free memory that the data may use.
    """
    streamed = mapped if free_bytes is None else data_bytes > share * free_bytes
    return Placement(data_bytes, free_bytes, mapped, streamed)
