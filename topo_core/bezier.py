"""A trained quadratic Bézier curve as the first path (Garipov et al. 2018).

The curve (1 - t)² p + 2 t (1 - t) c + t² q has one free point c, which descends the expected
loss over t. It is far cheaper than a polygon, and the polygon that starts on it is in a much
lower valley than the straight line.

Each step spends one gradient, at one place t, as in the paper's own code: at an equal number of
gradients many steps on one place are lower than few on four (docs/performance.md). Places do not
come from a random draw but from a golden-ratio rotation, whose every stretch covers [0, 1] evenly,
so that the gradient of c has less noise (the additive recurrence of low discrepancy: Kuipers &
Niederreiter 1974). The rate decays linearly to nothing, which takes out what noise remains.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from topo_core.draws import generator
from topo_core.objective import Objective, Step, gradients_of_paths
from topo_core.optimizer_settings import OptimizerSettings
from topo_core.optimizers import displacement, empty_slots
from topo_core.path import resample
from topo_core.settings import PathSettings

# The second moment forgets in a hundred steps, so that short runs outlive their first gradients.
_ADAM = OptimizerSettings("adam", lr=0.01, betas=(0.9, 0.99))
_GOLDEN = 0.6180339887498949  # (√5 - 1) / 2
_FINE = 129  # places on the curve from which points at equal arc length are taken


def curve(start: Tensor, control: Tensor, end: Tensor, times: Tensor) -> Tensor:
    """Points [k, d] at ``times`` [k] in [0, 1] of the curve, or of k curves [k, d] one point each."""
    t = times.to(start.dtype)[:, None]
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end


def places(seed: int, steps: int) -> Tensor:
    """Where on the curve each of ``steps`` takes its gradient: [steps] float64 in [0, 1)."""
    first = torch.rand(1, generator=generator(seed, "bezier"), dtype=torch.float64)
    return (first + _GOLDEN * torch.arange(steps, dtype=torch.float64)) % 1.0


def bezier_path(
    objective: Objective, start: Tensor, end: Tensor, settings: PathSettings, seed: int
) -> tuple[Tensor, int]:
    """The trained curve, [points, d] at equal arc length, and the gradients that it took."""
    (points,), spent = bezier_paths(objective, start[None], end[None], settings, [seed])
    return points, spent


def bezier_paths(
    objective: Objective,
    starts: Tensor,
    ends: Tensor,
    settings: PathSettings,
    seeds: Sequence[int],
) -> tuple[list[Tensor], int]:
    """The trained curves of p pairs of ends [p, d], in lockstep.

    Trained for ``settings.bezier_epochs`` with Adam, one place on each curve for each minibatch.
    A curve that diverges is replaced by the straight line.

    Returns:
        The polygons [points, d] at equal arc length, and the gradients that each of them took.
    """
    controls = 0.5 * (starts + ends)
    slots = empty_slots(_ADAM, controls)
    steps = settings.bezier_epochs * objective.batches
    times = torch.stack([places(seed, steps) for seed in seeds], dim=1).to(starts.device)
    for number, time in enumerate(times):
        each = [Step(seed, *divmod(number, objective.batches)) for seed in seeds]
        points = curve(starts, controls, ends, time)
        _, gradients = gradients_of_paths(objective, points[:, None], each)
        gradients = torch.add(gradients[:, 0], points, alpha=settings.l2)
        moved = displacement(
            _ADAM,
            slots,
            gradients * (2 * time * (1 - time)).to(starts.dtype)[:, None],
            _ADAM.lr * (1 - number / steps),
            spacing=starts.new_ones(len(starts)),
            max_move=None,
        )
        controls = controls - moved
    triples = zip(starts, controls, ends, strict=True)
    return [_polygon(*triple, settings.points) for triple in triples], steps


def _polygon(start: Tensor, control: Tensor, end: Tensor, points: int) -> Tensor:
    """``points`` points of the curve at equal arc length; of the line, if the curve is not finite."""
    if not bool(control.isfinite().all()):
        control = 0.5 * (start + end)
    times = torch.linspace(0, 1, _FINE, dtype=torch.float64, device=start.device)
    fine = curve(start, control, end, times)
    fine[0], fine[-1] = start, end
    return resample(fine, points)
