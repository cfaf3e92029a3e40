"""Several paths in one call, each on its own minibatch: the counterpart of each strategy.

Fully connected layers of all paths are batched matrix products, and `vmap` takes a second axis. Convolutions
gain nothing from being batched over points (grouped kernels are slower than separate ones), so their paths
stay a loop; on a GPU it is laid out over several streams, whose kernels run beside each other, and a CUDA
graph can hold the whole of it.
"""

import torch
from torch import Tensor
from torch.func import vmap

from topo_core.objectives.batching.cuda_graphs import Graphed, GraphedPaths
from topo_core.objectives.batching.linear import Linear
from topo_core.objectives.batching.protocol import PathsStrategy, Strategy
from topo_core.objectives.batching.vmapped import Functional

STREAMS = 4
"""Enough for small kernels to fill a GPU; each keeps a pool of memory of its own."""


def for_paths(strategy: Strategy) -> PathsStrategy:
    """What evaluates several paths as `strategy` evaluates the points of one."""
    if isinstance(strategy, Graphed):
        return GraphedPaths(for_paths(strategy.inner))
    if isinstance(strategy, Linear):
        return LinearPaths(strategy)
    if isinstance(strategy, Functional):
        return FunctionalPaths(strategy)
    return OneByOne(strategy)


class LinearPaths:
    """Each layer of all points of all paths is a batched product, see `linear`."""

    def __init__(self, one: Linear) -> None:
        self.gradients = one.gradients_of_paths


class FunctionalPaths:
    """`vmap` over paths of `vmap` over points."""

    def __init__(self, one: Functional) -> None:
        self._gradients = vmap(one.gradients, randomness="error")

    def gradients(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        losses, gradients = self._gradients(points, inputs, targets)
        return losses, gradients


class OneByOne:
    """A loop over the paths, on several streams where the device has them."""

    def __init__(self, one: Strategy) -> None:
        self._one = one
        self._streams: list[torch.cuda.Stream] = []

    def gradients(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        each = zip(points, inputs, targets, strict=True)
        if not points.is_cuda:
            found = [self._one.gradients(*given) for given in each]
        else:
            found = self._on_streams(list(each), points.device)
        return torch.stack([losses for losses, _ in found]), torch.stack([g for _, g in found])

    def _on_streams(
        self, each: list[tuple[Tensor, Tensor, Tensor]], device: torch.device
    ) -> list[tuple[Tensor, Tensor]]:
        """Streams fork from the current one and join it again, so a graph can be recorded of them.

        Memory of a side stream is only used again there, after it has waited for the current stream: no
        tensor has to be kept longer for the sake of another stream.
        """
        if not self._streams:
            self._streams = [torch.cuda.Stream(device) for _ in range(STREAMS)]
        current = torch.cuda.current_stream(device)
        used = self._streams[: len(each)]
        for stream in used:
            stream.wait_stream(current)
        found = []
        for i, given in enumerate(each):
            with torch.cuda.stream(used[i % len(used)]):
                found.append(self._one.gradients(*given))
        for stream in used:
            current.wait_stream(stream)
        return found
