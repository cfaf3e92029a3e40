"""The curves of Garipov et al. (2018), trained as published.

SGD with momentum 0.9, and for each minibatch one point on the curve, drawn evenly from [0, 1]. Both of their
curves have one free node: a quadratic Bézier curve, and a chain of two straight segments.
"""

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective, Step
from topo_core.paths.polyline import resample
from topo_core.paths.settings import PathSettings
from topo_core.random_streams import generator

MOMENTUM = 0.9


def trained_curve(
    objective: Objective,
    start: Tensor,
    end: Tensor,
    settings: PathSettings,
    rate: float,
    seed: int,
    *,
    chain: bool = False,
) -> tuple[Tensor, int]:
    """The curve as points [settings.points, d], and the gradients that it took."""
    shares = _chain_shares if chain else _bezier_shares
    nodes, velocity = torch.stack([start, 0.5 * (start + end), end]), torch.zeros_like(start)
    steps = settings.resolve(objective.batches).bezier_epochs * objective.batches
    for number in range(steps):
        step = Step(seed, *divmod(number, objective.batches))
        draw = generator(seed, "garipov", number)
        weights = shares(torch.rand(1, generator=draw, dtype=torch.float64)).to(start)
        point = weights @ nodes
        _, gradient = objective.gradients(point, step)
        slope = weights[0, 1] * (gradient + settings.l2 * point)[0]
        velocity = MOMENTUM * velocity + slope
        # Half of the run at the full rate, then linearly to a hundredth of it, as in its code.
        done = number / steps
        decay = 1.0 if done < 0.5 else max(0.01, 1 - (done - 0.5) / 0.4 * 0.99)
        nodes[1] -= rate * decay * velocity
    fine = shares(torch.linspace(0, 1, 257, dtype=torch.float64)).to(start) @ nodes
    fine[0], fine[-1] = start, end
    return resample(fine, settings.points), steps


def _bezier_shares(times: Tensor) -> Tensor:
    """Weights [k, 3] of the nodes at `times` [k]."""
    return torch.stack([(1 - times) ** 2, 2 * times * (1 - times), times**2], 1)


def _chain_shares(times: Tensor) -> Tensor:
    return torch.stack(
        [(1 - 2 * times).clamp_min(0), 1 - (2 * times - 1).abs(), (2 * times - 1).clamp_min(0)], 1
    )
