"""The number of points evaluated in one call, from a memory budget; it is reduced when memory runs out.

Rows do not depend on each other, so the number of points in a call changes at most the last bits of results.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from topo_core.objectives.batching.protocol import Evaluator

T = TypeVar("T")

_CPU_BUDGET = 1 << 30  # bytes: well below the memory of any machine that trains networks
_DEVICE_SHARE = 0.25  # of the total memory of a device; the free memory would differ between runs

# fraction of a device that this process may use; below 1 if workers share it
_OF_PROCESS = {"share": 1.0}

# tensors of the size of a path in memory during a step, the state of the optimiser included
_COPIES = 20
_MOST_PATHS = 64  # with more paths no device was used any better


def budget(device: torch.device) -> int:
    """Number of bytes that the activations of one call may use."""
    if device.type != "cuda":
        return _CPU_BUDGET
    total = torch.cuda.get_device_properties(device).total_memory
    return int(_DEVICE_SHARE * _OF_PROCESS["share"] * total)


def share_device(fraction: float) -> None:
    """Limit this process to a fraction (0 to 1) of the memory of each device, if other processes share it."""
    _OF_PROCESS["share"] = fraction


def paths_that_fit(device: torch.device, points: int, dimension: int, itemsize: int = 4) -> int:
    """Number of paths with ``points`` points that can be optimised together; it depends on device and network
    only.

    The tensors of the paths get as much memory as the activations. ``itemsize`` is the number of bytes per
    value.
    """
    each = _COPIES * points * dimension * itemsize
    return max(1, min(_MOST_PATHS, budget(device) // each))


def activation_bytes(module: nn.Module, example: Tensor) -> int:
    """Number of bytes of the outputs of all layers of `module` for one example [1, ...], gradients
    included."""
    total = 0

    def count(layer: nn.Module, inputs: object, output: object) -> None:
        nonlocal total
        if isinstance(output, Tensor) and not any(True for _ in layer.children()):
            total += 2 * output.numel() * output.element_size()

    handles = [layer.register_forward_hook(count) for layer in module.modules()]
    try:
        with torch.no_grad():
            module(example)
    finally:
        for handle in handles:
            handle.remove()
    return max(total, 1)


class MemoryParts:
    """Evaluates many rows in parts that fit into memory.

    Attributes:
        at_once: number of rows in a part; None for all. It is halved each time memory runs out.
    """

    def __init__(self, at_once: int | None) -> None:
        self.at_once = at_once

    def __call__(self, count: int, work: Callable[[slice], T], *, device: torch.device) -> list[T]:
        """The results of `work` on consecutive parts of `count` rows.

        Raises:
            OutOfMemoryError: not even one row fits.
        """
        done: list[T] = []
        first = 0
        while first < count:
            size = min(self.at_once or count, count - first)
            try:
                done.append(work(slice(first, first + size)))
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
                self.at_once = size // 2
            else:
                first += size
                continue
            # outside the handler, in which the exception keeps memory allocated
            if device.type == "cuda":
                torch.cuda.empty_cache()
        return done


class BudgetedEvaluator:
    """An evaluator that calls another one with at most `at_once` points at a time.

    With several paths, a call has as many whole paths as the budget allows. If one path does not fit, its
    points are split over several calls.
    """

    def __init__(self, inner: Evaluator, at_once: int | None = None) -> None:
        self.inner, self.parts, self.paths = inner, MemoryParts(at_once), MemoryParts(None)

    def gradients(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean losses [k] and gradients [k, d] of `points` [k, d] on a batch."""
        return _joined(
            self.parts(
                len(points),
                lambda rows: self.inner.gradients(points[rows], inputs, targets),
                device=points.device,
            )
        )

    def gradients_of_paths(
        self, points: Tensor, inputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean losses [p, m] and gradients [p, m, d] of `points` [p, m, d], each path on its own batch."""
        most = self.parts.at_once
        if most is not None:
            fits = max(1, most // points.shape[1])
            self.paths.at_once = min(self.paths.at_once or fits, fits)

        def work(paths: slice) -> tuple[Tensor, Tensor]:
            if paths.stop - paths.start > 1:
                return self.inner.gradients_of_paths(points[paths], inputs[paths], targets[paths])
            i = paths.start
            losses, gradients = self.gradients(points[i], inputs[i], targets[i])
            return losses[None], gradients[None]

        return _joined(self.paths(len(points), work, device=points.device))

    def outputs(
        self, points: Tensor, inputs: Tensor, buffers: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Outputs [k, n, ...]; `buffers` [k, ...] replace those of the module."""
        own = buffers or {}
        parts = self.parts(
            len(points),
            lambda rows: self.inner.outputs(
                points[rows], inputs, {name: value[rows] for name, value in own.items()}
            ),
            device=points.device,
        )
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _joined(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    if len(parts) == 1:
        return parts[0]
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
