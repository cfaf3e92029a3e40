"""A small network as an objective through torch.func: no code of the tool takes part in it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.objectives.protocol import Step
from topo_core.random_streams import generator

_SIZES = ((6, 4), (6,), (3, 6), (3,))  # a 4-6-3 perceptron, 51 parameters


@dataclass(frozen=True)
class TinyNetwork:
    """Cross-entropy of a tanh perceptron on ``rows`` random labelled vectors."""

    rows: int = 24
    batches: int = 3
    seed: int = 0
    dimension: int = 51

    def gradients(self, points: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        draw = generator(step.seed, "batch", step.epoch, step.batch)
        chosen = torch.randperm(self.rows, generator=draw)[: self.rows // self.batches]
        inputs, labels = self._data(points)
        both = torch.func.vmap(torch.func.grad_and_value(_loss), in_dims=(0, None, None))
        gradients, losses = both(points, inputs[chosen], labels[chosen])
        return losses, gradients

    def losses(self, points: Tensor) -> Tensor:
        each = torch.func.vmap(_loss, in_dims=(0, None, None))
        return each(points, *self._data(points)).to(torch.float64)

    def minimum(self, seed: int) -> Tensor:
        """Parameters [51] (float64) after a short training from a random start."""
        draw = generator("start", seed)
        point = torch.randn(1, self.dimension, generator=draw, dtype=torch.float64)
        for epoch in range(60):
            for batch in range(self.batches):
                _, gradients = self.gradients(point, Step(seed, epoch, batch))
                point = point - 0.3 * gradients
        return point[0]

    def _data(self, points: Tensor) -> tuple[Tensor, Tensor]:
        draw = generator("data", self.seed)
        inputs = torch.randn(self.rows, 4, generator=draw, dtype=torch.float64)
        return inputs.to(points), torch.randint(3, (self.rows,), generator=draw)


def _loss(point: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
    parts = point.split([torch.Size(shape).numel() for shape in _SIZES])
    first, bias, second, last = (p.reshape(s) for p, s in zip(parts, _SIZES, strict=True))
    hidden = torch.tanh(inputs @ first.T + bias)
    return torch.nn.functional.cross_entropy(hidden @ second.T + last, labels)
