"""Trained curves as initial paths (Garipov et al. 2018, of higher degree).

A curve of degree 4 from p to q has three control points, which are trained with gradients of the loss at
points t of the curve. Training a curve takes far fewer gradients than relaxing a polygon, since each gradient
moves the whole curve. A polygon that starts on the curve lies in a much lower valley than the straight line.
Four choices make the curve lower than the published quadratic one at an equal number of gradients (comparison
in docs/performance.md):

- *Three control points*: a curve with one control point lies in a plane. Between networks trained on random
  labels such a curve stays above the higher end; a curve with three control points does not.
- *Lion* (Chen et al. 2023): the sign of an average of gradients moves all coordinates equally fast. The unit
  of the rate is the root mean square difference of the coordinates of the two ends. So wide networks, whose
  weights are small, need no other rate. Plain chains of many layers get a smaller rate, since changes of the
  layers multiply. Badly scaled coordinates have a unit each (``coordinate_units``).
- *Points by a golden-ratio rotation*, one for each minibatch. Every consecutive part of the sequence covers
  [0, 1] evenly (additive recurrence of low discrepancy: Kuipers & Niederreiter 1974). Many steps on one point
  each give lower curves than a quarter as many steps on four points each.
- *More points where the loss is high*, since the maximum along the curve counts, not the mean.

The rate decays linearly to 0, which removes the remaining noise. Training is done in rounds, each with as
many gradients as all rounds before it. It ends early if the curve is as low as its higher end, since then no
path is lower, or if it hardly falls any more (``hand_over``).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective, Step, gradients_of_paths
from topo_core.paths.coordinate_units import TYPICAL, coordinate_units
from topo_core.paths.displacements import displacement, empty_slots
from topo_core.paths.polyline import line
from topo_core.paths.profiles import Profile, is_as_low_as, loss_profiles
from topo_core.paths.settings import ResolvedSettings
from topo_core.paths.starts.bezier_curves import LossAlongCurve, bernstein, polygon, rotation
from topo_core.paths.starts.hand_over import Progress, curve_pays
from topo_core.paths.starts.protocol import Start
from topo_core.paths.update_settings import OptimizerSettings

_CONTROLS = 3
_LION = OptimizerSettings("lion", betas=(0.9, 0.97))  # betas and rate: docs/performance.md
_RATE = 0.008  # in units of the root mean square difference of the coordinates of the ends
# of a round: initial part with evenly spread points, to learn the losses along the curve
_EVEN = 0.1
_SHORT = 50  # smallest number of passes of the first round
_FAR = 1.6  # smallest sum of the rates of the first round, in the units of the rate
_TOGETHER = 8
"""Number of steps whose points are chosen at once. The choice takes dozens of small tensor operations, which
would cost as much as the gradient of a small network if they were done in every step."""


@dataclass(frozen=True)
class Round:
    """One round of training, in which the rate decays to 0.

    Attributes:
        first: number of passes over the minibatches done when the round begins.
        last: number of passes done when the round ends.
        rate: first rate, in units of the root mean square difference of the coordinates of the ends.
    """

    first: int
    last: int
    rate: float


def rounds(objective: Objective, resolved: ResolvedSettings) -> tuple[Round, ...]:
    """The rounds in which a curve is trained, ``bezier_epochs`` passes together.

    Many pairs need only a part of the passes, and the height of a curve can be judged only after the rate has
    decayed. So the first round is short, and each later round doubles the passes, with half the first rate.
    The first round has at least fifty passes, and enough steps to move a coordinate by 1.6 times the root
    mean square difference of the ends. The last round has all remaining passes, at least half as many
    as all rounds before it.
    """
    total = resolved.bezier_epochs
    rate = resolved.settings.bezier_rate or _rate(objective)
    short = max(_SHORT, math.ceil(2 * _FAR / rate / objective.batches))
    parts, first, last = list[Round](), 0, short
    while first < total:
        last = total if 1.5 * last > total else last
        parts.append(Round(first, last, rate if first == 0 else rate / 2))
        first, last = last, 2 * last
    return tuple(parts)


def _rate(objective: Objective) -> float:
    """The first rate; for plain chains of more than five layers it is 0.2 over the squared depth."""
    depth = getattr(objective, "depth", None)
    return _RATE if depth is None else min(_RATE, 0.2 / depth**2)


@dataclass(frozen=True)
class CurveState:
    """A curve in training, between two passes: a checkpoint from which training continues bit for bit.

    Attributes:
        nodes: [5, d], the two ends included.
        mean: [3, d], average of the gradients of the control points, the state of the optimiser.
        losses: [1, bins] float64, averages of the losses along the curve in this round.
        passes: number of passes done.
        heights: height above the higher end after each round.
        units: [d], the units of the coordinates; None if they are not badly scaled.
        probes: number of gradients evaluated to determine the units.
    """

    nodes: Tensor
    mean: Tensor
    losses: Tensor
    passes: int
    heights: tuple[float, ...] = ()
    units: Tensor | None = None
    probes: int = 0

    def tensors(self) -> dict[str, Tensor]:
        """The tensors, all 2-D."""
        units = {} if self.units is None else {"units": self.units[None]}
        return {"nodes": self.nodes, "mean": self.mean, "losses": self.losses, **units}

    def scalars(self) -> dict[str, Any]:
        """Everything except the tensors, as values that JSON can hold."""
        return {"passes": self.passes, "heights": list(self.heights), "probes": self.probes}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> "CurveState":
        """The state that ``tensors()`` and ``scalars()`` came from."""
        return cls(
            tensors["nodes"],
            tensors["mean"],
            tensors["losses"],
            int(scalars["passes"]),
            tuple(scalars["heights"]),
            tensors["units"][0] if "units" in tensors else None,
            int(scalars.get("probes", 0)),
        )


@dataclass(frozen=True)
class TrainedCurve:
    """A trained curve as a polygon.

    Attributes:
        points: [n, d], equally spaced in arc length; the straight line if training has diverged.
        gradient_evaluations: number of gradients evaluated in training.
        profile: the losses along the polygon; None if they were not measured.
        units: [d], the units of the coordinates; None if they are not badly scaled.
    """

    points: Tensor
    gradient_evaluations: int
    profile: Profile | None = None
    units: Tensor | None = None

    def start(self) -> Start:
        """The curve as an initial path."""
        return Start(self.points, self.gradient_evaluations, self.profile, units=self.units)


def begin_curve(objective: Objective, start: Tensor, end: Tensor, seed: int) -> CurveState:
    """The state before training: the straight line between two ends [d].

    The seed determines the minibatches on which the scales of the coordinates are measured.
    """
    units, probes = coordinate_units(objective, start, end, seed)
    nodes = line(start, end, _CONTROLS + 2)
    return CurveState(nodes, *_empty(nodes), passes=0, units=units, probes=probes)


def _empty(nodes: Tensor) -> tuple[Tensor, Tensor]:
    """The average of the gradients and the losses along the curve before a round."""
    none = nodes.new_zeros(1, LossAlongCurve.BINS, dtype=torch.float64)
    return empty_slots(_LION, nodes[1:-1])["mean"], none


def trained_start(
    objective: Objective, start: Tensor, end: Tensor, resolved: ResolvedSettings, seed: int
) -> Start:
    """The start ``bezier``: a curve after all of its training."""
    begun = [begin_curve(objective, start, end, seed)]
    every = resolved.bezier_epochs
    *_, last = train_curves(objective, begun, resolved, [seed], every=every)
    curve = last[0]
    assert isinstance(curve, TrainedCurve)  # training ends with it
    return curve.start()


def train_curves(
    objective: Objective,
    states: Sequence[CurveState],
    resolved: ResolvedSettings,
    seeds: Sequence[int],
    *,
    every: int,
) -> Iterator[dict[int, CurveState | TrainedCurve]]:
    """Train p curves; curves with equal numbers of passes advance in lockstep.

    On a CPU the results are bit for bit the same for all values of ``every``.

    Args:
        objective: the loss.
        states: the curves to continue.
        resolved: settings of the paths that will start on the curves.
        seeds: one for each curve.
        every: passes between two stops.

    Yields:
        At every stop, the states of the curves that reached it, by their indices. A curve that is done (after
        the last round, or after an earlier one if it is as low as its higher end or ``curve_pays`` is false)
        is yielded as a ``TrainedCurve``.
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
        done: dict[int, TrainedCurve] = {}
        if until == part.last:
            number = parts.index(part) + 1
            moved, trained = _after_round(
                objective, moved, resolved, parts[:number], last=number == len(parts)
            )
            done = {group[index]: curve for index, curve in trained.items()}
        going.update(zip(group, moved, strict=True))
        yield {i: done.get(i, going[i]) for i in group}
        going = {i: state for i, state in going.items() if i not in done}


def _advanced(
    objective: Objective,
    states: Sequence[CurveState],
    resolved: ResolvedSettings,
    seeds: Sequence[int],
    part: Round,
    until: int,
) -> list[CurveState]:
    """The states of p curves with equal numbers of passes, advanced to ``until`` passes within a round."""
    nodes = torch.stack([state.nodes for state in states])
    controls = nodes[:, 1:-1]  # a view
    slots = {"mean": torch.stack([state.mean for state in states])}
    scales = _sizes(nodes, [state.units for state in states])
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
    ended = until == part.last
    kept = (
        [_empty(rows) for rows in nodes]
        if ended
        else zip(slots["mean"], along.losses[:, None], strict=True)
    )
    return [
        replace(state, nodes=rows, mean=mean, losses=losses, passes=until)
        for state, rows, (mean, losses) in zip(states, nodes, kept, strict=True)
    ]


def _sizes(nodes: Tensor, units: Sequence[Tensor | None]) -> Tensor:
    """Root mean square differences of the ends of p curves: [p, 1, 1], or [p, 1, d] if one of them has units
    of its coordinates, with the size in these units.

    Args:
        nodes: [p, m, d], with the ends.
        units: [d] of each curve; None for the given coordinates.
    """
    sizes: Tensor = torch.linalg.vector_norm(nodes[:, -1] - nodes[:, 0], dim=1)[:, None, None]
    sizes /= math.sqrt(nodes.shape[2])
    if all(each is None for each in units):
        return sizes
    rows = [
        size.expand(1, nodes.shape[2]) if each is None else TYPICAL * each[None]
        for size, each in zip(sizes, units, strict=True)
    ]
    return torch.stack(rows)


def _after_round(
    objective: Objective,
    states: Sequence[CurveState],
    resolved: ResolvedSettings,
    parts: Sequence[Round],
    *,
    last: bool,
) -> tuple[list[CurveState], dict[int, TrainedCurve]]:
    """The states with the heights after the last of the rounds ``parts``, and the curves that are done, by
    their indices."""
    paths = [polygon(state.nodes, resolved.settings.points, state.units) for state in states]
    trained = [
        TrainedCurve(path, state.probes + state.passes * objective.batches, units=state.units)
        for path, state in zip(paths, states, strict=True)
    ]
    if last:
        return list(states), dict(enumerate(trained))
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
    done = {
        i: replace(trained[i], profile=profile)
        for i, profile in zip(low, profiles, strict=True)
        if is_as_low_as(profile.maximum, profile.losses[[0, -1]], dtype)
    }
    measured = [
        replace(state, heights=(*state.heights, float(at.max() - at[[0, -1]].max())))
        for state, at in zip(states, losses, strict=True)
    ]
    if resolved.epochs:  # otherwise no path follows
        counts = [part.last * objective.batches for part in parts]
        for i, state in enumerate(measured):
            progress = [Progress(*each) for each in zip(counts, state.heights, strict=True)]
            if i not in done and not curve_pays(progress):
                done[i] = trained[i]
    return measured, done
