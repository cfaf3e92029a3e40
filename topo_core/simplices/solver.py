"""The solver of simplices: ``begin_simplices``, ``advance_simplices`` and ``simplex_is_finished`` act on
states.

An epoch is a pass over the minibatches (``steps``). Every few epochs the dense maximum is measured, and the
simplex with the lowest dense maximum is kept.

A simplex cannot be lower than its faces, so the run ends if the maximum is no higher than that of the faces.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective, Step
from topo_core.paths.displacements import empty_slots
from topo_core.simplices.lattice import lattice
from topo_core.simplices.profiles import measured_profiles
from topo_core.simplices.settings import SimplexSettings
from topo_core.simplices.state import SimplexMeasure, SimplexState
from topo_core.simplices.steps import MovingSimplices

_UNCHANGED = 5  # measurements within the tolerance of each other after which the run ends


def begin_simplices(
    objective: Objective,
    boundaries: Sequence[Tensor],
    floors: Sequence[float],
    dimension: int,
    settings: SimplexSettings,
    interiors: Sequence[Tensor] | None = None,
) -> list[SimplexState]:
    """The states before the first step of r-simplices.

    Args:
        objective: the loss.
        boundaries: of each simplex the boundary nodes [N - I, d], in lattice order.
        floors: of each simplex the highest loss on its faces.
        dimension: r, of all of them.
        settings: of all of them.
        interiors: of each simplex the initial interior nodes [I, d]; harmonic where None.
    """
    if not boundaries:
        return []
    nodes = lattice(dimension, settings.subdivisions)
    fixed = torch.stack(list(boundaries))
    points = fixed.new_empty(len(fixed), len(nodes.coordinates), fixed.shape[2])
    points[:, nodes.boundary] = fixed
    if interiors is None:
        weights = nodes.harmonic.to(fixed)
        points[:, nodes.interior] = torch.einsum("ib,sbd->sid", weights, fixed)
    else:
        points[:, nodes.interior] = torch.stack(list(interiors))
    profiles = measured_profiles(objective, points, nodes, floors, settings)
    method = settings.method(objective.batches)
    states = []
    for nodes_of_one, profile, floor in zip(points, profiles, floors, strict=True):
        start = nodes_of_one.clone()
        maximum, finite = max(profile.maximum, floor), math.isfinite(profile.maximum)
        measure = SimplexMeasure(0, 0.0, 0.0, profile.maximum, maximum, 0.0, 0.0, 0)
        states.append(
            SimplexState(
                points=start,
                slots=empty_slots(method, start[nodes.interior]),
                best=start,
                best_maximum=maximum,
                best_epoch=0,
                floor=floor,
                tolerance=settings.height_tolerance * (maximum - profile.minimum),
                dimension=dimension,
                subdivisions=settings.subdivisions,
                epoch=0,
                steps=0,
                batches=objective.batches,
                time=0.0,
                scale=0.0 if settings.scales(objective.batches) else 1.0,
                gradient_evaluations=0,
                history=(measure,) if finite else (),
                failure="" if finite else "the loss on the starting simplex is not finite",
            )
        )
    return states


def simplex_is_finished(state: SimplexState, settings: SimplexSettings) -> bool:
    """Whether ``advance_simplices`` has nothing left to do."""
    return (
        bool(state.failure)
        or state.epoch >= settings.total_epochs(state.batches)
        or state.best_maximum <= state.floor + state.tolerance
        or _unchanged(state)
    )


def _unchanged(state: SimplexState) -> bool:
    """Whether exact gradients no longer change the simplex or its maximum."""
    measured = state.history[1:]
    if state.batches != 1 or not measured:
        return False
    if measured[-1].normal_norm == 0:
        return True
    heights = [measure.dense_maximum for measure in measured[-_UNCHANGED:]]
    return len(heights) == _UNCHANGED and max(heights) - min(heights) <= state.tolerance


def advance_simplices(
    objective: Objective,
    states: Sequence[SimplexState],
    settings: SimplexSettings,
    seed: int,
    *,
    until_epoch: int,
) -> list[SimplexState]:
    """The states at ``until_epoch`` (or at the end of the run, or where they failed).

    All simplices have one dimension, and each step is one call of the objective. Advancing in one
    call or in several gives the same bits on a CPU. The result for a simplex does not depend on
    the others, up to how the objective evaluates more or fewer rows.
    """
    advanced = list(states)
    while True:
        unfinished = [
            number
            for number, state in enumerate(advanced)
            if state.epoch < until_epoch and not simplex_is_finished(state, settings)
        ]
        if not unfinished:
            return advanced
        epoch = min(advanced[number].epoch for number in unfinished)
        pack = [number for number in unfinished if advanced[number].epoch == epoch]
        moved = _epoch(objective, [advanced[number] for number in pack], settings, seed)
        for number, state in zip(pack, moved, strict=True):
            advanced[number] = state


def _epoch(
    objective: Objective, states: Sequence[SimplexState], settings: SimplexSettings, seed: int
) -> list[SimplexState]:
    """One epoch for states of the same epoch, then a measurement if it is due."""
    epoch, batches = states[0].epoch, states[0].batches
    moving = MovingSimplices(objective, states, settings)
    rate = 0.0
    for batch in range(batches):
        rate = settings.schedule.rate(
            epoch, batch, batches, moving.method.lr, settings.total_epochs(batches)
        )
        moving.step(Step(seed, epoch, batch), rate)
    moved = moving.states(epoch + 1)
    if (epoch + 1) % settings.evaluate_every and epoch + 1 < settings.total_epochs(batches):
        return moved
    points = torch.stack([state.points for state in moved])
    whole = points.isfinite().flatten(1).all(1).tolist()
    points = torch.stack([s.points if ok else s.best for s, ok in zip(moved, whole, strict=True)])
    profiles = measured_profiles(
        objective, points, states[0].nodes, [state.floor for state in states], settings
    )
    return [
        _measured(state, profile.maximum if ok else math.inf, rate, moving.norms(number))
        for number, (state, profile, ok) in enumerate(zip(moved, profiles, whole, strict=True))
    ]


def _measured(
    state: SimplexState, maximum: float, rate: float, norms: tuple[float, float, float]
) -> SimplexState:
    """The state with one more measurement; its simplex becomes the best if it is the lowest."""
    if not math.isfinite(maximum):
        reason = f"the loss became infinite by epoch {state.epoch}; lower the learning rate"
        return replace(state, points=state.best, failure=reason)
    maximum = max(maximum, state.floor)
    measure = SimplexMeasure(
        epoch=state.epoch,
        rate=rate,
        time=state.time,
        max_loss=norms[0],
        dense_maximum=maximum,
        normal_norm=norms[1],
        tangent_norm=norms[2],
        gradient_evaluations=state.gradient_evaluations,
    )
    state = replace(state, history=(*state.history, measure))
    if maximum < state.best_maximum:
        state = replace(state, best=state.points, best_maximum=maximum, best_epoch=state.epoch)
    return state
