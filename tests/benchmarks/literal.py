"""Algorithm 2 as a loop over an `nn.Module`: the reference of all ratios of time.

It has no special kernels. For one point after another, the weights are loaded into the module, `backward` is
called, and the gradient is projected and subtracted, as in the text of the paper.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from topo_core.objectives.minibatches import CHUNK
from topo_core.objectives.network_loss import ModuleObjective, strategies
from topo_core.objectives.precision import Precision
from topo_core.paths.polyline import line


def gradient(module: nn.Module, point: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Gradient [d] of the mean loss of a batch at `point` [d]."""
    with torch.no_grad():
        vector_to_parameters(point, module.parameters())
    module.zero_grad()
    nn.functional.cross_entropy(module(x), y).backward()
    return parameters_to_vector([p.grad for p in module.parameters()])


def step(
    module: nn.Module, path: list[Tensor], x: Tensor, y: Tensor, rate: float, l2: float
) -> None:
    """One step of Algorithm 2 on the points between the ends of `path`, in place."""
    for i in range(1, len(path) - 1):
        slope = gradient(module, path[i], x, y) + l2 * path[i]
        back, front = path[i] - path[i - 1], path[i + 1] - path[i]
        along = (slope @ back) / (back @ back) * back + (slope @ front) / (front @ front) * front
        path[i] = path[i] - rate * (slope - 0.5 * along)


def losses(module: nn.Module, points: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Mean losses [k] over a whole set."""
    means = []
    with torch.no_grad():
        for point in points:
            vector_to_parameters(point, module.parameters())
            parts = zip(x.split(CHUNK), y.split(CHUNK), strict=True)
            total = sum(
                nn.functional.cross_entropy(module(a), b, reduction="sum") for a, b in parts
            )
            means.append(float(total) / len(x))
    return torch.tensor(means, dtype=torch.float64)


def offered(
    module: nn.Module, shape: tuple[int, ...], device: str = "cpu", precision: Precision = "float32"
) -> tuple[str, ...]:
    """Names of the strategies for a classifier of examples of a shape."""
    examples = torch.zeros(1, *shape), torch.zeros(1, dtype=torch.int64)
    return strategies(module, *examples, device=device, precision=precision)


def straight(objective: ModuleObjective, module: nn.Module, points: int) -> Tensor:
    """A path [points, d] between two random points of the size of initial weights."""
    start = parameters_to_vector(module.parameters()).detach()
    draw = torch.Generator().manual_seed(0)
    other = start[torch.randperm(len(start), generator=draw)]
    assert len(start) == objective.dimension
    return line(start, other, points)
