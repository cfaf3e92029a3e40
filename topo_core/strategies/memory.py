"""Memory is budgeted: as many points at once as fit, and fewer when the device says that it is full.

What is cut is only how many points share a call. Rows do not depend on each other, so the cut changes
results in no more than the last bits.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from topo_core.strategies.protocol import Strategy

T = TypeVar("T")

_CPU_BUDGET = 1 << 30
_DEVICE_SHARE = 0.25  # of all the memory of a device: not of what is free, so that runs are alike


def budget(device: torch.device) -> int:
    """Bytes that the activations of one call may take."""
    if device.type != "cuda":
        return _CPU_BUDGET
    return int(_DEVICE_SHARE * torch.cuda.get_device_properties(device).total_memory)


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


class Budgeted:
    """A strategy that asks another one for at most `at_once` points at a time.

    Attributes:
        at_once: points in a call; None for all. It is halved each time that memory runs out, and stays.
    """

    def __init__(self, inner: Strategy, at_once: int | None = None) -> None:
        self.inner, self.at_once = inner, at_once

    def gradients(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        parts = self._in_parts(
            points, lambda rows: self.inner.gradients(points[rows], inputs, targets)
        )
        if len(parts) == 1:
            return parts[0]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])

    def logits(
        self, points: Tensor, inputs: Tensor, buffers: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        own = buffers or {}
        parts = self._in_parts(
            points,
            lambda rows: self.inner.logits(
                points[rows], inputs, {name: value[rows] for name, value in own.items()}
            ),
        )
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _in_parts(self, points: Tensor, work: Callable[[slice], T]) -> list[T]:
        done: list[T] = []
        first = 0
        while first < len(points):
            count = min(self.at_once or len(points), len(points) - first)
            try:
                done.append(work(slice(first, first + count)))
            except torch.OutOfMemoryError:
                if count == 1:
                    raise
                self.at_once = count // 2
            else:
                first += count
                continue
            if points.is_cuda:  # outside the handler, which holds on to what was allocated
                torch.cuda.empty_cache()
        return done
