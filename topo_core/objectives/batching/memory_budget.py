"""Memory budget: how many points are evaluated in one call, reduced when the device runs out of memory.

Rows do not depend on each other, so the number of points in a call changes results in the last bits at most.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from topo_core.objectives.batching.protocol import Evaluator

T = TypeVar("T")

_CPU_BUDGET = 1 << 30  # bytes: well below the memory of any machine that trains networks
_DEVICE_SHARE = (
    0.25  # of the total memory of a device, not of the free part, so that runs are equal
)

_OF_PROCESS = {"share": 1.0}  # of a device: less where several workers share it

_COPIES = 20  # tensors of a path's size that a step holds, from its points to the optimiser's state
_MOST_PATHS = 64  # more paths fill no device any better


def budget(device: torch.device) -> int:
    """Bytes that the activations of one call may take."""
    if device.type != "cuda":
        return _CPU_BUDGET
    total = torch.cuda.get_device_properties(device).total_memory
    return int(_DEVICE_SHARE * _OF_PROCESS["share"] * total)


def share_device(fraction: float) -> None:
    """Limit this process to a fraction (0 to 1) of the memory of each device, which others use as well."""
    _OF_PROCESS["share"] = fraction


def paths_that_fit(device: torch.device, points: int, dimension: int, itemsize: int = 4) -> int:
    """Paths of ``points`` points that can be optimised together: a number of the device and the network.

    Their tensors get as much memory as activations get.
    """
    each = _COPIES * points * dimension * itemsize
    return max(1, min(_MOST_PATHS, budget(device) // each))


def activation_bytes(module: nn.Module, example: Tensor) -> int:
    """Bytes of what the layers of `module` put out for one example [1, ...], gradients included."""
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


class Parts:
    """Work on many rows in parts that fit.

    Attributes:
        at_once: rows in a part; None for all. It is halved each time that memory runs out.
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
            if device.type == "cuda":  # outside the handler, which holds on to what was allocated
                torch.cuda.empty_cache()
        return done


class Budgeted:
    """An evaluator that asks another one for at most `at_once` points at a time.

    A call on several paths evaluates as many paths at a time as the budget allows. If not even one path
    fits, its points are split.
    """

    def __init__(self, inner: Evaluator, at_once: int | None = None) -> None:
        self.inner, self.parts, self.paths = inner, Parts(at_once), Parts(None)

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
