"""A trained Bézier curve as the first path (Garipov et al. 2018, of higher degree).

A curve of degree 4 from p to q has three free points, its controls. They descend the loss at places t of
the curve. It is far cheaper than a polygon, since each gradient moves the whole curve, and a polygon that
starts on it is in a much lower valley than the straight line. Four things make it lower than the published
quadratic curve at an equal number of gradients (docs/performance.md has the comparison):

- *Three controls*, where one bends in a single plane: of networks that have learnt random labels one does
  not reach the higher end, and three do.
- *Lion* (Chen et al. 2023): the sign of an average of gradients moves all coordinates equally fast, at a
  rate in units of what those of the two ends differ by, in the root mean square. So wide networks, whose
  weights are small, need no rate of their own. Plain chains of many layers, whose changes multiply, get less.
- *Places by a golden-ratio rotation*, every stretch of which covers [0, 1] evenly (additive recurrence of
  low discrepancy: Kuipers & Niederreiter 1974), one for each minibatch: many steps on one place are lower
  than few on four.
- *More places where the loss is high*: what counts is the maximum, not the mean.

The rate decays linearly to nothing, which takes out what noise remains. That is done in rounds, since many
curves are as low as their higher ends long before the last pass, and then no path is lower.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.draws import generator
from topo_core.objective import Objective, Step, gradients_of_paths
from topo_core.optimizer_settings import OptimizerSettings
from topo_core.optimizers import displacement, empty_slots
from topo_core.path import at_positions, line, positions_of, resample
from topo_core.settings import PathSettings

_CONTROLS = 3
_LION = OptimizerSettings("lion", betas=(0.9, 0.97))
_RATE = 0.008
_SHORT = 50  # passes
_FAR = 1.6  # root mean squares: the sum of the rates of a round
_GOLDEN = 0.6180339887498949  # (√5 - 1) / 2
_FINE = 257  # places on the curve from which points at equal arc length are taken


def curve(nodes: Tensor, times: Tensor) -> Tensor:
    """Points [..., k, d] at ``times`` [..., k] in [0, 1] of the curve of ``nodes`` [..., m, d].

    The first and the last node are its ends, those between them its controls.
    """
    return _bernstein(times, nodes.shape[-2]).to(nodes.dtype) @ nodes


def _bernstein(times: Tensor, nodes: int) -> Tensor:
    """Weights [..., k, nodes] of the control points at ``times`` [..., k]."""
    power, binomials = _powers(nodes, times.device)
    t = times[..., None]
    return binomials * t**power * (1 - t) ** (nodes - 1 - power)


@functools.cache  # on a GPU a transfer in every step would be waited for
def _powers(nodes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """i and the binomial coefficients of (nodes - 1, i), [nodes] float64."""
    binomials = [math.comb(nodes - 1, i) for i in range(nodes)]
    power = torch.arange(nodes, dtype=torch.float64, device=device)
    return power, torch.tensor(binomials, dtype=torch.float64, device=device)


def rotation(seed: int, steps: int) -> Tensor:
    """[steps] float64 in [0, 1), every stretch of which is spread evenly."""
    first = torch.rand(1, generator=generator(seed, "bezier"), dtype=torch.float64)
    return (first + _GOLDEN * torch.arange(steps, dtype=torch.float64)) % 1.0


class Places:
    """Where on each of p curves the next gradients are taken: more often where losses were high.

    Losses met so far are averaged in bins of t. The density of places in a bin is 1 + 2 r², where r is
    the loss of the bin over the mean of all bins; if one is negative, all are taken relative to it. It is
    looked at anew every few steps: the dozens of small tensors that this takes would cost as much as the
    gradient of a small network.

    Args:
        evenly: [p, steps] in [0, 1), spread evenly.
    """

    TOGETHER = 8  # steps

    _BINS = 32
    _MEMORY = 0.5  # of the average: losses fall a hundredfold, and a bin is met a few dozen times
    _EVEN = 0.1  # of all steps, before the losses along the curve are known

    def __init__(self, evenly: Tensor) -> None:
        self._evenly = evenly
        paths = len(evenly)
        self._losses = evenly.new_zeros(paths, self._BINS)
        edges = torch.linspace(0, 1, self._BINS + 1, dtype=evenly.dtype, device=evenly.device)
        self._edges = edges[:, None].expand(paths, -1, 1)

    def of_steps_from(self, step: int) -> Tensor:
        """Places [p, n] of a step (from 0) and of those after it, n of them together."""
        evenly = self._evenly[:, step : step + self.TOGETHER]
        if step < self._EVEN * self._evenly.shape[1]:
            return evenly
        losses = self._losses - self._losses.amin(1, keepdim=True).clamp_max(0)
        mean = losses.mean(1, keepdim=True).clamp_min(1e-30)
        positions = positions_of(1 + 2 * (losses / mean).square())
        return at_positions(self._edges, positions, evenly)[..., 0]

    def met(self, places: Tensor, losses: Tensor) -> None:
        """Losses [p, n] were met at ``places`` [p, n]."""
        bins = (places * self._BINS).long().clamp_max(self._BINS - 1)
        before = self._losses
        sums = torch.zeros_like(before).scatter_add_(1, bins, losses.to(before.dtype))
        counts = torch.zeros_like(before).scatter_add_(1, bins, torch.ones_like(places))
        now = sums / counts
        kept = torch.where(before != 0, torch.lerp(now, before, self._MEMORY), now)
        self._losses = torch.where(counts > 0, kept, before)


@dataclass(frozen=True)
class Round:
    """A training of the curve, with a rate that decays to nothing.

    Attributes:
        first: passes over the minibatches before it.
        passes: of this one.
        rate: the first rate, in root mean squares of the difference of the ends.
        total: passes of all rounds.
    """

    first: int
    passes: int
    rate: float
    total: int


def rounds(objective: Objective, settings: PathSettings) -> tuple[Round, ...]:
    """The rounds in which a curve is trained, ``settings.bezier_epochs`` together.

    Many pairs need only a part, and what is done can be seen only once the rate has decayed. So the first
    round is short, and the others go on from it at half its rate. It has fifty passes, and as many steps as
    take a coordinate 1.6 root mean squares far; there is a single round where that is more than half of all.
    """
    total, rate = settings.bezier_epochs, settings.bezier_rate or _rate(objective)
    short = max(_SHORT, math.ceil(2 * _FAR / rate / objective.batches))
    if 2 * short > total:
        return (Round(0, total, rate, total),)
    found = [Round(0, short, rate, total), Round(short, short, rate / 2, total)]
    if 2 * short < total:
        found.append(Round(2 * short, total - 2 * short, rate / 2, total))
    return tuple(found)


def _rate(objective: Objective) -> float:
    """Less for plain chains of more than five layers, by the square of their depth."""
    depth = getattr(objective, "depth", None)
    return _RATE if depth is None else min(_RATE, 0.2 / depth**2)


def straight_nodes(starts: Tensor, ends: Tensor) -> Tensor:
    """Nodes [p, m, d] of the curves that are the lines between p pairs of ends [p, d]."""
    lines = [line(*pair, _CONTROLS + 2) for pair in zip(starts, ends, strict=True)]
    return torch.stack(lines)


def trained(
    objective: Objective, nodes: Tensor, settings: PathSettings, seeds: Sequence[int], part: Round
) -> Tensor:
    """The nodes [p, m, d] of p curves after a round, in lockstep: one place a curve and minibatch."""
    nodes = nodes.clone()
    controls = nodes[:, 1:-1]  # a view
    slots = empty_slots(_LION, controls)
    scales = torch.linalg.vector_norm(nodes[:, -1] - nodes[:, 0], dim=1)[:, None, None]
    scales = scales / math.sqrt(nodes.shape[2])
    unbounded = nodes.new_ones(len(nodes), _CONTROLS)
    batches = objective.batches
    before, steps = part.first * batches, part.passes * batches
    evenly = torch.stack([rotation(seed, part.total * batches) for seed in seeds])
    places = Places(evenly[:, before : before + steps].to(nodes.device))
    for first in range(0, steps, places.TOGETHER):
        times, met = places.of_steps_from(first), []
        for number, weights in enumerate(_of_each_step(times, nodes), start=first):
            each = [Step(seed, *divmod(before + number, batches)) for seed in seeds]
            points = weights @ nodes
            losses, gradients = gradients_of_paths(objective, points, each)
            met.append(losses)
            gradients = torch.add(gradients, points, alpha=settings.l2)
            moved = displacement(
                _LION,
                slots,
                weights[:, 0, 1:-1, None] * gradients,
                part.rate * (1 - number / steps),
                spacing=unbounded,
                max_move=None,
            )
            controls.addcmul_(moved, scales, value=-1)
        places.met(times, torch.cat(met, dim=1))
    return nodes


def _of_each_step(times: Tensor, nodes: Tensor) -> tuple[Tensor, ...]:
    """Weights [p, 1, m] of the nodes [p, m, d] at the ``times`` [p, n] of n steps, one place each."""
    weights = _bernstein(times, nodes.shape[1]).to(nodes.dtype)
    return tuple(weights[:, i : i + 1] for i in range(times.shape[1]))


def polygon(nodes: Tensor, points: int) -> Tensor:
    """[points, d] of the curve of ``nodes`` [m, d] at equal arc length; of the line, if it is infinite."""
    if not bool(nodes.isfinite().all()):
        nodes = line(nodes[0], nodes[-1], len(nodes))
    times = torch.linspace(0, 1, _FINE, dtype=torch.float64, device=nodes.device)
    fine = curve(nodes, times)
    fine[0], fine[-1] = nodes[0], nodes[-1]
    return resample(fine, points)
