"""A trained quadratic Bézier curve as the first path (Garipov et al. 2018).

The curve (1 - t)² p + 2 t (1 - t) c + t² q has one free point c, which descends the expected
loss at random t. It is far cheaper than a polygon, and the polygon that starts on it is in a
much lower valley than the straight line: on a small network 0.16 against 2.15 at an equal
number of gradients.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from topo_core.draws import generator
from topo_core.objective import Objective, Step, gradients_of_paths
from topo_core.optimizers import OptimizerSettings, displacement, empty_slots
from topo_core.path import resample
from topo_core.settings import PathSettings

PLACES = 4  # values of t in a step, one in each quarter of [0, 1]
_ADAM = OptimizerSettings("adam", lr=0.01)
_FINE = 129  # places on the curve from which points at equal arc length are taken


def curve(start: Tensor, control: Tensor, end: Tensor, times: Tensor) -> Tensor:
    """Points [k, d] of the curve at ``times`` [k] in [0, 1]."""
    t = times.to(start.dtype)[:, None]
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end


def bezier_path(
    objective: Objective, start: Tensor, end: Tensor, settings: PathSettings, seed: int
) -> tuple[Tensor, int]:
    """The trained curve, [points, d] at equal arc length, and the gradients that it took.

    Trained for ``settings.bezier_epochs`` with Adam, at a rate that decays linearly to nothing.
    (Garipov et al. use momentum: at an equal number of gradients its curve was eight times
    higher.) A curve that diverges is replaced by the straight line.
    """
    control = 0.5 * (start + end)
    slots = empty_slots(_ADAM, control[None])
    steps = settings.bezier_epochs * objective.batches
    for number in range(steps):
        step = Step(seed, *divmod(number, objective.batches))
        times = _times(step).to(start.device)
        points = curve(start, control, end, times)
        _, gradients = objective.gradients(points, step)
        gradients = torch.add(gradients, points, alpha=settings.l2)
        share = (2 * times * (1 - times)).to(start.dtype)
        moved, slots = displacement(
            _ADAM,
            slots,
            (share @ gradients / PLACES)[None],
            _ADAM.lr * (1 - number / steps),
            spacing=start.new_ones(1),
            max_move=None,
        )
        control = control - moved[0]
    return _polygon(start, control, end, settings.points), steps * PLACES


def bezier_paths(
    objective: Objective,
    starts: Tensor,
    ends: Tensor,
    settings: PathSettings,
    seeds: Sequence[int],
) -> tuple[list[Tensor], int]:
    """As ``bezier_path`` for p pairs of ends [p, d] in lockstep, up to rounding.

    Returns:
        The polygons, and the gradients that each of them took.
    """
    controls = 0.5 * (starts + ends)
    slots = empty_slots(_ADAM, controls)
    steps = settings.bezier_epochs * objective.batches
    for number in range(steps):
        each = [Step(seed, *divmod(number, objective.batches)) for seed in seeds]
        times = torch.stack([_times(step) for step in each]).to(starts.device)
        t = times.to(starts.dtype)[..., None]
        share = 2 * t * (1 - t)  # [p, places, 1]
        points = (1 - t) ** 2 * starts[:, None] + share * controls[:, None] + t**2 * ends[:, None]
        _, gradients = gradients_of_paths(objective, points, each)
        gradients = torch.add(gradients, points, alpha=settings.l2)
        moved, slots = displacement(
            _ADAM,
            slots,
            (share * gradients).sum(1) / PLACES,
            _ADAM.lr * (1 - number / steps),
            spacing=starts.new_ones(len(starts)),
            max_move=None,
        )
        controls = controls - moved
    triples = zip(starts, controls, ends, strict=True)
    return [_polygon(*triple, settings.points) for triple in triples], steps * PLACES


def _times(step: Step) -> Tensor:
    """Where the curve is evaluated in a step: one place in each of ``PLACES`` parts of [0, 1]."""
    draw = generator(step.seed, "bezier", step.epoch, step.batch)
    offsets = torch.rand(PLACES, generator=draw, dtype=torch.float64)
    return (torch.arange(PLACES) + offsets) / PLACES


def _polygon(start: Tensor, control: Tensor, end: Tensor, points: int) -> Tensor:
    """``points`` points of the curve at equal arc length; of the line, if the curve is not finite."""
    if not bool(control.isfinite().all()):
        control = 0.5 * (start + end)
    times = torch.linspace(0, 1, _FINE, dtype=torch.float64, device=start.device)
    fine = curve(start, control, end, times)
    fine[0], fine[-1] = start, end
    return resample(fine, points)
