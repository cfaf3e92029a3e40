"""CUDA graphs: a whole evaluation is recorded once and then launched as one piece of work.

A loop over points launches thousands of small kernels, and the launches take longer than the kernels. A
graph has fixed shapes and addresses, so one is kept for each shape that is asked for, and data are copied
into its inputs. Any strategy whose kernels do not depend on values can be recorded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.objectives.batching.protocol import PathsStrategy, Strategy

_WARM_UP = 3  # calls before the recording, in which kernels and workspaces are chosen
_KEPT = 4  # shapes: full and last minibatches of a path, and of a path after an insertion


@dataclass(frozen=True)
class _Recorded:
    graph: torch.cuda.CUDAGraph
    given: tuple[Tensor, Tensor, Tensor]
    found: tuple[Tensor, Tensor]


class _Graphs:
    """A function of (points, inputs, targets) and its graphs, one for each shape that was asked for."""

    def __init__(self, function: Callable[..., tuple[Tensor, Tensor]]) -> None:
        self._function = function
        self._recorded: dict[tuple[torch.Size, torch.Size, torch.dtype], _Recorded] = {}

    def __call__(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        if not points.is_cuda:
            return self._function(points, inputs, targets)
        key = points.shape, inputs.shape, points.dtype
        if key not in self._recorded:
            while len(self._recorded) >= _KEPT:
                del self._recorded[next(iter(self._recorded))]
            self._recorded[key] = self._record(points, inputs, targets)
        recorded = self._recorded[key]
        for into, value in zip(recorded.given, (points, inputs, targets), strict=True):
            into.copy_(value)
        recorded.graph.replay()
        losses, gradients = recorded.found
        return losses.clone(), gradients.clone()

    def _record(self, *given: Tensor) -> _Recorded:
        # Not `clone` of a view: what is recorded are contiguous inputs.
        points, inputs, targets = (value.detach().contiguous().clone() for value in given)
        side = torch.cuda.Stream(points.device)
        side.wait_stream(torch.cuda.current_stream(points.device))
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                self._function(points, inputs, targets)
        torch.cuda.current_stream(points.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = self._function(points, inputs, targets)
        return _Recorded(graph, (points, inputs, targets), found)


class Graphed:
    """`gradients` of another strategy as a CUDA graph; on other devices just that strategy."""

    def __init__(self, inner: Strategy) -> None:
        self.inner = inner
        self._graphs = _Graphs(inner.gradients)

    def gradients(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return self._graphs(points, inputs, targets)

    def logits(
        self, points: Tensor, inputs: Tensor, buffers: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        return self.inner.logits(points, inputs, buffers)


class GraphedPaths:
    """The same for several paths at once."""

    def __init__(self, inner: PathsStrategy) -> None:
        self._graphs = _Graphs(inner.gradients)

    def gradients(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return self._graphs(points, inputs, targets)
