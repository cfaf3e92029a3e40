"""``optimize_path``: relaxes a path between two minima to a pass (Algorithm 2 and its improvements).

The loop is ``begin -> advance -> ... -> solution`` of ``PathSolver`` on a ``PathState``. Known methods are
choices of settings: Algorithm 2 is ``force="paper"``; the string method is ``force="string"`` with
redistribution; the nudged elastic band is ``force="spring"``; AutoNEB is ``force="spring"`` with
``Insertion(criterion="residual")``. The result is never higher than the start.
"""

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective
from topo_core.paths.settings import PathSettings
from topo_core.paths.solution import PathSolution
from topo_core.paths.solver import PathSolver
from topo_core.paths.starts.initial_paths import find_start


def optimize_path(
    objective: Objective,
    start: Tensor,
    end: Tensor,
    settings: PathSettings | None = None,
    *,
    seed: int = 0,
) -> PathSolution:
    """A low path from ``start`` to ``end`` ([d] each, minima of the objective).

    Args:
        objective: the loss; ``from_function`` makes one from a formula.
        start, end: the two ends; they do not move. Integers are converted to float64.
        settings: None for the defaults.
        seed: determines the minibatches and all other random draws.

    Raises:
        ValueError: the ends are not finite real vectors of equal dtype and of the objective's dimension, or
            the start that the settings name cannot be made from the loss alone.
    """
    start, end = _as_point(start), _as_point(end)
    if start.ndim != 1 or start.shape != end.shape or start.dtype != end.dtype:
        raise ValueError(
            f"the ends have shapes {tuple(start.shape)} ({start.dtype}) and "
            f"{tuple(end.shape)} ({end.dtype}); give two vectors of one length and dtype."
        )
    if not bool((start.isfinite() & end.isfinite()).all()):
        raise ValueError("an end has values that are not finite; give two finite points.")
    if objective.dimension not in (None, len(start)):
        raise ValueError(
            f"the ends have dimension {len(start)} and the objective has "
            f"{objective.dimension}; give points of its dimension."
        )
    resolved = (settings or PathSettings()).resolve(objective.batches, len(start))
    solver = PathSolver(objective, resolved)
    first = find_start(objective, start, end, solver.resolved, seed)
    state = solver.begin(
        first.points,
        spent=first.gradient_evaluations,
        profile=first.profile,
        verified=first.verified,
        units=first.units,
    )
    return solver.solution(solver.advance(state, seed, until_epoch=solver.resolved.epochs))


def _as_point(end: Tensor) -> Tensor:
    """``end`` detached from its graph, in a floating dtype."""
    end = end.detach()
    if end.is_complex() or end.dtype is torch.bool:
        raise ValueError(f"an end has the dtype {end.dtype}; give floating or whole numbers.")
    return end if end.is_floating_point() else end.to(torch.float64)
