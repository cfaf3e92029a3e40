"""The quadratic Bézier curve of Garipov et al. (2018), trained as published.

SGD with momentum 0.9, and for each minibatch one place on the curve, drawn evenly from [0, 1].
"""

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective, Step
from topo_core.paths.polyline import resample
from topo_core.paths.settings import PathSettings
from topo_core.paths.starts.bezier_curves import curve
from topo_core.random_streams import generator

MOMENTUM = 0.9


def trained_curve(
    objective: Objective, start: Tensor, end: Tensor, settings: PathSettings, rate: float, seed: int
) -> tuple[Tensor, int]:
    """The curve as points [settings.points, d], and the gradients that it took."""
    nodes, velocity = torch.stack([start, 0.5 * (start + end), end]), torch.zeros_like(start)
    steps = settings.resolve(objective.batches).bezier_epochs * objective.batches
    for number in range(steps):
        step = Step(seed, *divmod(number, objective.batches))
        draw = generator(seed, "garipov", number)
        time = torch.rand(1, generator=draw, dtype=torch.float64)
        point = curve(nodes, time)
        _, gradient = objective.gradients(point, step)
        share = (2 * time * (1 - time)).to(start.dtype)
        velocity = MOMENTUM * velocity + share * (gradient + settings.l2 * point)[0]
        # Half of the run at the full rate, then linearly to a hundredth of it, as in its code.
        done = number / steps
        decay = 1.0 if done < 0.5 else max(0.01, 1 - (done - 0.5) / 0.4 * 0.99)
        nodes[1] -= rate * decay * velocity
    fine = curve(nodes, torch.linspace(0, 1, 257, dtype=torch.float64))
    fine[0], fine[-1] = start, end
    return resample(fine, settings.points), steps
