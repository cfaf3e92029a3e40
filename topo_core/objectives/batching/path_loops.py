"""Several paths one after the other, each on its own minibatch.

Convolutions gain nothing from being batched over points (grouped kernels are slower than separate ones), so
their paths are evaluated in a loop. On a GPU the loop uses several streams, whose kernels run concurrently,
and a CUDA graph can record the whole loop.
"""

from collections.abc import Callable

import torch
from torch import Tensor

STREAMS = 4
"""Number of streams: enough for small kernels to fill a GPU; each stream has its own memory pool."""

Gradients = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""A function that maps points, inputs and targets to losses and gradients."""


class PathLoop:
    """A loop over the paths, on several streams where the device has them."""

    def __init__(self, gradients: Gradients) -> None:
        self._gradients = gradients
        self._streams: list[torch.cuda.Stream] = []

    def __call__(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Losses [p, m] and gradients [p, m, d] of `points` [p, m, d], each path on its own batch."""
        each = zip(points, inputs, targets, strict=True)
        if not points.is_cuda:
            results = [self._gradients(*given) for given in each]
        else:
            results = self._on_streams(list(each), points.device)
        return torch.stack([losses for losses, _ in results]), torch.stack([g for _, g in results])

    def _on_streams(
        self, each: list[tuple[Tensor, Tensor, Tensor]], device: torch.device
    ) -> list[tuple[Tensor, Tensor]]:
        """The results of all paths, computed on several streams.

        The streams fork from the current one and join it again, so that a CUDA graph can record them. The
        allocator reuses the memory of a side stream only on that stream, after it has waited for the current
        stream, so no tensor needs `record_stream`.
        """
        if not self._streams:
            self._streams = [torch.cuda.Stream(device) for _ in range(STREAMS)]
        current = torch.cuda.current_stream(device)
        used = self._streams[: len(each)]
        for stream in used:
            stream.wait_stream(current)
        results = []
        for i, given in enumerate(each):
            with torch.cuda.stream(used[i % len(used)]):
                results.append(self._gradients(*given))
        for stream in used:
            current.wait_stream(stream)
        return results
