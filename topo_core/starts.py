"""The first path. It dominates the result: a local method keeps to the valley it starts in.

``line``     the straight segment of the paper (section 2.6).
``bezier``   a trained curve of degree 4 (``bezier``).
``routes``   a search for the pass, for exact gradients (``routes``).
``through``  a concatenation of optimised paths: ``path.through``.
``aligned``  the line to a permuted copy of the end (``symmetry``). The copy has the same loss,
             so the height is one on the quotient by the symmetries of the network.
``warm``     the path of an earlier run.

The last three are made by the caller, who has the paths and the network.
"""

from dataclasses import dataclass

from torch import Tensor

from topo_core.bezier import bezier_path
from topo_core.objective import Objective
from topo_core.path import line
from topo_core.routes import lowest_route
from topo_core.settings import PathSettings


@dataclass(frozen=True)
class Start:
    """A first path [n, d], and the rows whose gradient it took to find it."""

    points: Tensor
    gradient_evaluations: int


def find_start(
    objective: Objective, start: Tensor, end: Tensor, settings: PathSettings, seed: int
) -> Start:
    """The first path from ``start`` to ``end`` [d], as ``settings.start`` says.

    Raises:
        ValueError: for a start that only the caller can make, and for ``routes`` on minibatches.
    """
    name = settings.resolve(objective.batches).start
    if name == "line":
        return Start(line(start, end, settings.points), 0)
    if name == "bezier":
        return Start(*bezier_path(objective, start, end, settings, seed))
    if name == "routes":
        if objective.batches != 1:
            raise ValueError(
                f"start is 'routes', which needs exact gradients, and the objective has "
                f"{objective.batches} minibatches; choose line or bezier."
            )
        return Start(*lowest_route(objective, start, end, settings.points, seed))
    raise ValueError(
        f"start is {name!r}, a path that the caller has to bring; give it to init, or choose "
        "line, bezier or routes."
    )


def initial_path(
    objective: Objective, start: Tensor, end: Tensor, settings: PathSettings, seed: int
) -> Tensor:
    """The points [n, d] of ``find_start``."""
    return find_start(objective, start, end, settings, seed).points
