"""A network's parameters as one flat row, and back as views of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ParameterLayout:
    """Names and shapes of the trainable parameters, in the order of `module.named_parameters()`."""

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    @classmethod
    def of(cls, module: nn.Module) -> "ParameterLayout":
        named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
        return cls(tuple(n for n, _ in named), tuple(p.shape for _, p in named))

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(shape.numel() for shape in self.shapes)

    @property
    def dimension(self) -> int:
        """d, the length of a row."""
        return sum(self.sizes)

    def views(self, points: Tensor) -> dict[str, Tensor]:
        """Views [k, *shape] into `points` [k, d], by name."""
        parts = points.split(self.sizes, dim=-1)
        return {
            name: part.unflatten(-1, shape) if len(shape) else part.squeeze(-1)
            for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }

    def flatten(self, state: Mapping[str, Tensor]) -> Tensor:
        """The row [d] of the parameters in `state`, such as a state dict; other tensors in it are ignored."""
        return torch.cat([state[name].detach().reshape(-1) for name in self.names])
