"""Trained curves as initial paths (Garipov et al. 2018, of higher degree).

A curve of degree 4 from p to q has three controls. They descend the loss at points t of
the curve. It is far cheaper than a polygon, since each gradient moves the whole curve, and a polygon that
starts on it is in a much lower valley than the straight line. Four things make it lower than the published
quadratic curve at an equal number of gradients (docs/performance.md has the comparison):

- *Three controls*: a curve with one control lies in a plane. Between networks trained on random labels
  such a curve stays above the higher end, and one with three controls does not.
- *Lion* (Chen et al. 2023): the sign of an average of gradients moves all coordinates equally fast, at a
  rate in units of what those of the two ends differ by, in the root mean square. So wide networks, whose
  weights are small, need no rate of their own. Plain chains of many layers, whose changes multiply, get less.
- *Points by a golden-ratio rotation*, every stretch of which covers [0, 1] evenly (additive recurrence of
  low discrepancy: Kuipers & Niederreiter 1974), one for each minibatch: many steps on one point each are
  lower than few on four.
- *More points where the loss is high*: what counts is the maximum, not the mean.

The rate decays linearly to nothing, which takes out what noise remains. That is done in rounds, since many
curves are as low as their higher ends long before the last pass, and then no path is lower.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective, Step, gradients_of_paths
from topo_core.paths.displacements import displacement, empty_slots
from topo_core.paths.polyline import line
from topo_core.paths.profiles import Profile, is_as_low_as, loss_profiles
from topo_core.paths.settings import Resolved
from topo_core.paths.starts.bezier_curves import LossAlongCurve, bernstein, polygon, rotation
from topo_core.paths.starts.protocol import Start
from topo_core.paths.update_settings import OptimizerSettings

_CONTROLS = 3
_LION = OptimizerSettings("lion", betas=(0.9, 0.97))  # betas and rate: docs/performance.md
_RATE = 0.008  # in root mean squares of the difference of the ends
_EVEN = 0.1  # of a round, before the losses along the curve are known
_SHORT = 50  # passes
_FAR = 1.6  # root mean squares: the sum of the rates of a round
_TOGETHER = 8
"""Steps whose points are chosen at once: the dozens of small tensors that this takes would cost as much as
the gradient of a small network."""


@dataclass(frozen=True)
class Round:
    """A training of the curve, with a rate that decays to nothing.

    Attributes:
        first: passes over the minibatches before it.
        last: passes after it.
        rate: the first rate, in root mean squares of the difference of the ends.
    """

    first: int
    last: int
    rate: float


def rounds(objective: Objective, resolved: Resolved) -> tuple[Round, ...]:
    """The rounds in which a curve is trained, ``bezier_epochs`` passes together.

    Many pairs need only a part of the passes, and the height of a curve can be judged only after the rate has
    decayed. So the first round is short, and later rounds continue from it at half its rate. The first round
    has at least fifty passes, and enough steps to move a coordinate by 1.6 root mean squares. If that is more
    than half of all passes, there is a single round.
    """
    total = resolved.bezier_epochs
    rate = resolved.settings.bezier_rate or _rate(objective)
    short = max(_SHORT, math.ceil(2 * _FAR / rate / objective.batches))
    if 2 * short > total:
        return (Round(0, total, rate),)
    first, second = Round(0, short, rate), Round(short, 2 * short, rate / 2)
    rest = (Round(2 * short, total, rate / 2),) if 2 * short < total else ()
    return (first, second, *rest)


def _rate(objective: Objective) -> float:
    """Less for plain chains of more than five layers, by the square of their depth."""
    depth = getattr(objective, "depth", None)
    return _RATE if depth is None else min(_RATE, 0.2 / depth**2)


@dataclass(frozen=True)
class CurveState:
    """A curve in training, between two passes: a checkpoint from which training continues bit for bit.

    Attributes:
        nodes: [5, d], the ends among them.
        mean: [3, d], the optimiser's average of the gradients of the controls.
        losses: [1, bins] float64, averages of the losses along the curve in this round.
        passes: number of passes done.
    """

    nodes: Tensor
    mean: Tensor
    losses: Tensor
    passes: int

    def tensors(self) -> dict[str, Tensor]:
        """The tensors, all 2-D."""
        return {"nodes": self.nodes, "mean": self.mean, "losses": self.losses}

    def scalars(self) -> dict[str, Any]:
        """Everything else, as JSON can write it."""
        return {"passes": self.passes}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> "CurveState":
        """The state that ``tensors()`` and ``scalars()`` came from."""
        return cls(tensors["nodes"], tensors["mean"], tensors["losses"], int(scalars["passes"]))


@dataclass(frozen=True)
class TrainedCurve:
    """A curve as a polygon.

    Attributes:
        points: [n, d] at equal arc length; the line, if the training has diverged.
        gradient_evaluations: what it took.
        profile: the losses along it, where they were measured.
    """

    points: Tensor
    gradient_evaluations: int
    profile: Profile | None = None


def begin_curve(start: Tensor, end: Tensor) -> CurveState:
    """The straight line between two ends [d]."""
    return _new_round(line(start, end, _CONTROLS + 2), 0)


def _new_round(nodes: Tensor, passes: int) -> CurveState:
    none = nodes.new_zeros(1, LossAlongCurve.BINS, dtype=torch.float64)
    return CurveState(nodes, empty_slots(_LION, nodes[1:-1])["mean"], none, passes)


def trained_start(
    objective: Objective, start: Tensor, end: Tensor, resolved: Resolved, seed: int
) -> Start:
    """The start ``bezier``: a curve trained to the end."""
    begun = [begin_curve(start, end)]
    every = resolved.bezier_epochs
    *_, last = train_curves(objective, begun, resolved, [seed], every=every)
    curve = last[0]
    assert isinstance(curve, TrainedCurve)  # training ends with it
    return Start(curve.points, curve.gradient_evaluations, curve.profile)


def train_curves(
    objective: Objective,
    states: Sequence[CurveState],
    resolved: Resolved,
    seeds: Sequence[int],
    *,
    every: int,
) -> Iterator[dict[int, CurveState | TrainedCurve]]:
    """Train p curves; curves with equal numbers of passes advance in lockstep.

    On a CPU the choice of stops changes no bit of the results.

    Args:
        objective: the loss.
        states: the curves to continue.
        resolved: settings of the paths that the curves are for.
        seeds: one a curve.
        every: passes between two stops.

    Yields:
        At every stop, the states of the curves that reached it, by their number. A curve that is done (after
        the last round, or as low as its higher end after an earlier one) is yielded as a trained curve.
    """
    parts = rounds(objective, resolved)
    going = dict(enumerate(states))
    while going:
        behind = min(state.passes for state in going.values())
        part = next(part for part in parts if behind < part.last)
        until = min(part.last, (behind // every + 1) * every)
        group = [i for i, state in going.items() if state.passes == behind]
        moved = _advanced(
            objective,
            [going[i] for i in group],
            resolved,
            [seeds[i] for i in group],
            part,
            until,
        )
        going.update(zip(group, moved, strict=True))
        done: dict[int, TrainedCurve] = {}
        if until == part.last:
            trained = _done(objective, moved, resolved, last=part is parts[-1])
            done = {group[index]: curve for index, curve in trained.items()}
        yield {i: done.get(i, going[i]) for i in group}
        going = {i: state for i, state in going.items() if i not in done}


def _advanced(
    objective: Objective,
    states: Sequence[CurveState],
    resolved: Resolved,
    seeds: Sequence[int],
    part: Round,
    until: int,
) -> list[CurveState]:
    """The states of p curves with equal numbers of passes, advanced to ``until`` passes within a round."""
    nodes = torch.stack([state.nodes for state in states])
    controls = nodes[:, 1:-1]  # a view
    slots = {"mean": torch.stack([state.mean for state in states])}
    scales = torch.linalg.vector_norm(nodes[:, -1] - nodes[:, 0], dim=1)[:, None, None]
    scales = scales / math.sqrt(nodes.shape[2])
    unbounded = nodes.new_ones(len(nodes), _CONTROLS)
    along = LossAlongCurve(torch.cat([state.losses for state in states]))
    batches, steps = objective.batches, (part.last - part.first) * objective.batches
    evenly = torch.stack([rotation(seed, part.last * batches) for seed in seeds]).to(nodes.device)
    for passes in range(states[0].passes, until):
        done = (passes - part.first) * batches
        for first in range(0, batches, _TOGETHER):
            size = min(_TOGETHER, batches - first)
            times = evenly[:, passes * batches + first :][:, :size]
            if done + first >= _EVEN * steps:
                times = along.denser(times)
            weights = bernstein(times, nodes.shape[1]).to(nodes.dtype)
            step_losses = []
            for number in range(size):
                batch, own = first + number, weights[:, number : number + 1]
                points = own @ nodes
                losses, gradients = gradients_of_paths(
                    objective, points, [Step(seed, passes, batch) for seed in seeds]
                )
                step_losses.append(losses)
                gradients = torch.add(gradients, points, alpha=resolved.settings.l2)
                moved = displacement(
                    _LION,
                    slots,
                    own[:, 0, 1:-1, None] * gradients,
                    part.rate * (1 - (done + batch) / steps),
                    spacing=unbounded,
                    max_move=None,
                )
                controls.addcmul_(moved, scales, value=-1)
            along.record(times, torch.cat(step_losses, dim=1))
    if until == part.last:
        return [_new_round(rows, until) for rows in nodes]
    return [
        CurveState(rows, mean, losses[None], until)
        for rows, mean, losses in zip(nodes, slots["mean"], along.losses, strict=True)
    ]


def _done(
    objective: Objective, states: Sequence[CurveState], resolved: Resolved, *, last: bool
) -> dict[int, TrainedCurve]:
    """The curves that are done at the end of a round, by their number."""
    paths = [polygon(state.nodes, resolved.settings.points) for state in states]
    spent = states[0].passes * objective.batches
    if last:
        return {i: TrainedCurve(path, spent) for i, path in enumerate(paths)}
    # Only curves with no point above their higher end are measured between the points.
    losses = objective.losses(torch.cat(paths)).split([len(path) for path in paths])
    dtype = paths[0].dtype
    low = [i for i, at in enumerate(losses) if is_as_low_as(float(at.max()), at[[0, -1]], dtype)]
    profiles = loss_profiles(
        objective,
        [paths[i] for i in low],
        heights=resolved.settings.heights,
        tolerance=resolved.settings.height_tolerance,
    )
    return {
        i: TrainedCurve(paths[i], spent, profile)
        for i, profile in zip(low, profiles, strict=True)
        if is_as_low_as(profile.maximum, profile.losses[[0, -1]], dtype)
    }
