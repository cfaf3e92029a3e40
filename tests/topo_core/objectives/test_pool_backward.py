"""The gradient before a max-pool of a GPU is that of the kernel that it stands in for."""

import pytest
import torch
from torch import nn

from topo_core.objectives.batching.convolutional import scattered
from topo_core.objectives.batching.convolutional_layers import window, windows_are_apart
from topo_core.random_streams import generator

POOLS = {
    "windows that meet": nn.MaxPool2d(2),
    "of other sides": nn.MaxPool2d((3, 2)),
    "padded": nn.MaxPool2d(3, padding=1),
    "that reach over the rim": nn.MaxPool2d(4, ceil_mode=True),
}


OVERLAPPING = {
    "a smaller stride": nn.MaxPool2d(3, 2),
    "one smaller stride": nn.MaxPool2d((2, 3), (2, 1)),
    "holes that others fill": nn.MaxPool2d(2, dilation=2),
}


def test_only_windows_that_do_not_overlap_are_written():
    """Where two windows share a position, what comes to it must be added up."""
    assert all(windows_are_apart(pool) for pool in POOLS.values())
    assert not any(windows_are_apart(pool) for pool in OVERLAPPING.values())


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_scattered(pool, memory):
    """Equal windows too, as on a dark background: the first position of a maximum takes it all."""
    draw = generator("pool")
    images = (
        torch.randint(3, (2, 3, 9, 10), generator=draw).double().contiguous(memory_format=memory)
    )
    out, chosen = torch.ops.aten.max_pool2d_with_indices(images, *window(pool))
    delta = torch.randn(out.shape, generator=draw).double().contiguous(memory_format=memory)
    expected = torch.ops.aten.max_pool2d_with_indices_backward(delta, images, *window(pool), chosen)
    found = scattered(delta, chosen, images)
    assert torch.equal(found, expected)
    assert found.stride() == images.stride()
