"""CUDA graphs: a whole evaluation is recorded once and then launched as a unit.

A loop over points launches thousands of small kernels, and the launches take longer than the kernels. A graph
has fixed shapes and addresses, so one is recorded for each requested shape, and data are copied into its
inputs. An evaluator can be recorded if its sequence of kernels does not depend on values.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from topo_core.objectives.batching.protocol import EvaluationContext, Evaluator, Network, Strategy

_WARM_UP = 3  # calls before the recording, in which libraries choose kernels and workspaces
_KEPT = 4  # graphs kept: for full and last minibatches, of a path before and after an insertion


@dataclass(frozen=True)
class _Recorded:
    graph: torch.cuda.CUDAGraph
    given: tuple[Tensor, Tensor, Tensor]
    results: tuple[Tensor, Tensor]


class _Graphs:
    """A function of (points, inputs, targets), and its graphs for the latest requested shapes."""

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
        losses, gradients = recorded.results
        return losses.clone(), gradients.clone()

    def _record(self, *given: Tensor) -> _Recorded:
        # `clone` of a view would keep its strides; the recording needs contiguous inputs.
        points, inputs, targets = (value.detach().contiguous().clone() for value in given)
        side = torch.cuda.Stream(points.device)
        side.wait_stream(torch.cuda.current_stream(points.device))
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                self._function(points, inputs, targets)
        torch.cuda.current_stream(points.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = self._function(points, inputs, targets)
        return _Recorded(graph, (points, inputs, targets), results)


class CudaGraphEvaluator:
    """An evaluator whose gradients are those of another one, replayed as CUDA graphs; on a CPU without
    graphs."""

    def __init__(self, inner: Evaluator) -> None:
        self.inner = inner
        self.gradients = _Graphs(inner.gradients)
        self.gradients_of_paths = _Graphs(inner.gradients_of_paths)

    def outputs(
        self, points: Tensor, inputs: Tensor, buffers: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Outputs [k, n, ...], without a graph."""
        return self.inner.outputs(points, inputs, buffers)


@dataclass(frozen=True)
class GraphStrategy:
    """Another strategy with its gradients recorded as CUDA graphs; the suffix of its name is `_graph`.

    Attributes:
        inner: the other strategy.
    """

    inner: Strategy

    needs_no_trial: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return f"{self.inner.name}_graph"

    @property
    def holds_all_points(self) -> bool:
        return self.inner.holds_all_points

    def allows(self, network: Network, situation: EvaluationContext) -> bool:
        """Whether the device is a GPU and the other strategy is possible."""
        return situation.device == "cuda" and self.inner.allows(network, situation)

    def make(self, network: Network) -> CudaGraphEvaluator:
        """The evaluator of a network."""
        return CudaGraphEvaluator(self.inner.make(network))
