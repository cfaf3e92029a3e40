"""The initial path of an optimisation, made by the rule that the settings name (`start_registry`)."""

from torch import Tensor

from topo_core.objectives.protocol import Objective
from topo_core.paths.coordinate_units import coordinate_units
from topo_core.paths.polyline import line
from topo_core.paths.settings import PathSettings, ResolvedSettings
from topo_core.paths.start_registry import STARTS
from topo_core.paths.starts.protocol import Start


def find_start(
    objective: Objective, start: Tensor, end: Tensor, resolved: ResolvedSettings, seed: int
) -> Start:
    """The initial path from ``start`` to ``end`` [d], as the settings say.

    Raises:
        ValueError: only the caller can make the start, or the start needs exact gradients and the objective
            has minibatches.
    """
    rule, name = STARTS[resolved.start], resolved.start
    make = rule.maker
    if make is None:
        possible = ", ".join(name for name, rule in STARTS.items() if rule.needs == "loss")
        raise ValueError(
            f"start is {name!r}, a path that the caller has to bring; give it to "
            f"PathSolver.begin, or choose one of {possible}."
        )
    if rule.exact_gradients and objective.batches != 1:
        raise ValueError(
            f"start is {name!r}, which needs exact gradients, and the objective has "
            f"{objective.batches} minibatches; choose line or bezier."
        )
    first: Start = make(objective, start, end, resolved, seed)
    return first


def straight(
    objective: Objective, start: Tensor, end: Tensor, resolved: ResolvedSettings, seed: int
) -> Start:
    """The start ``line``: the straight segment of the paper (section 2.6)."""
    points = line(start, end, resolved.settings.points)
    if not resolved.uses_units:
        return Start(points)
    units, spent = coordinate_units(objective, start, end, seed)
    return Start(points, spent, units=units)


def initial_path(
    objective: Objective, start: Tensor, end: Tensor, settings: PathSettings, seed: int
) -> Tensor:
    """The points [n, d] of ``find_start``."""
    resolved = settings.resolve(objective.batches, len(start))
    return find_start(objective, start, end, resolved, seed).points
