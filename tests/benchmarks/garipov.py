"""The quadratic Bézier curve of Garipov et al. (2018), trained as published: SGD with momentum 0.9."""

import torch
from torch import Tensor

from topo_core.bezier import PLACES, curve
from topo_core.draws import generator
from topo_core.objective import Objective, Step
from topo_core.path import resample
from topo_core.settings import PathSettings

RATE, MOMENTUM = 0.05, 0.9


def trained_curve(
    objective: Objective, start: Tensor, end: Tensor, settings: PathSettings, seed: int
) -> tuple[Tensor, int]:
    """The curve as points [settings.points, d], and the gradients that it took."""
    control, velocity = 0.5 * (start + end), torch.zeros_like(start)
    steps = settings.bezier_epochs * objective.batches
    for number in range(steps):
        step = Step(seed, *divmod(number, objective.batches))
        draw = generator(seed, "garipov", number)
        times = (torch.arange(PLACES) + torch.rand(PLACES, generator=draw)).double() / PLACES
        points = curve(start, control, end, times)
        _, gradients = objective.gradients(points, step)
        share = (2 * times * (1 - times)).to(start.dtype)
        slope = share @ (gradients + settings.l2 * points) / PLACES
        velocity = MOMENTUM * velocity + slope
        # Half of the run at the full rate, then linearly to a hundredth of it, as in its code.
        done = number / steps
        rate = RATE * (1.0 if done < 0.5 else max(0.01, 1 - (done - 0.5) / 0.4 * 0.99))
        control = control - rate * velocity
    fine = curve(start, control, end, torch.linspace(0, 1, 257, dtype=torch.float64))
    fine[0], fine[-1] = start, end
    return resample(fine, settings.points), steps * PLACES
