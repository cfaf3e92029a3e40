"""Verification of the peak of a stored path: the saddle that a search in float64 reaches from it."""

from copy import deepcopy

import torch
from torch import Tensor

from topo_core.critical_points.saddle_search import Saddle, SaddleSettings, find_saddle
from topo_core.objectives.network_loss import ModuleObjective
from topo_core.objectives.protocol import Step
from topo_core.paths.polyline import arc_positions, at_positions
from workers.problems.loaded_problem import Loaded


def exact_objective(loaded: Loaded) -> ModuleObjective:
    """The loss over the whole training set in float64: one batch, without noise."""
    data = loaded.data
    inputs, targets = data.train_inputs, data.train_targets
    return ModuleObjective(
        deepcopy(loaded.module).double(),
        inputs.double() if inputs.is_floating_point() else inputs,
        targets.double() if targets.is_floating_point() else targets,
        batch_size=len(inputs),
        loss=loaded.loss,
        ridge=loaded.ridge,
    )


def verify_peak(
    objective: ModuleObjective,
    path: Tensor,
    position: float,
    settings: SaddleSettings,
    *,
    seed: int,
) -> Saddle | None:
    """The saddle at the peak of a path [k, d], or None where an end is its highest point.

    Args:
        objective: with exact gradients in float64.
        path: the points.
        position: of the peak, a fraction of the arc length.
        settings: of the search.
        seed: of the first Lanczos vector.
    """
    path = path.double()
    positions = arc_positions(path)
    right = int(torch.searchsorted(positions, position).clamp(1, len(path) - 1))
    chord = path[right] - path[right - 1]
    (peak,) = at_positions(path, positions, positions.new_tensor([position]))
    losses = objective.losses(torch.stack([peak, path[0], path[-1]]))
    barrier = float(losses[0] - losses[1:].max())
    if not barrier > 0 or not float(chord.norm()) > 0:
        return None
    return find_saddle(
        lambda points: objective.gradients(points, Step(0, 0, 0)),
        peak,
        chord,
        spacing=float(chord.norm()),
        barrier=barrier,
        settings=settings,
        seed=seed,
    )
