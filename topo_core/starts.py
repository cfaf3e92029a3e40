"""The first path. It dominates the result: a local method keeps to the pass it starts near."""

from torch import Tensor

from topo_core.objective import Objective
from topo_core.path import line
from topo_core.routes import lowest_route
from topo_core.settings import PathSettings


def initial_path(
    objective: Objective, start: Tensor, end: Tensor, settings: PathSettings, seed: int
) -> Tensor:
    """The first path [n, d] from ``start`` to ``end`` [d], as ``settings.start`` says.

    Raises:
        ValueError: for a start that only the caller can make (aligned, through, warm).
    """
    name = settings.resolve(objective.batches).start
    if name == "line":
        return line(start, end, settings.points)
    if name == "routes":
        return lowest_route(objective, start, end, settings.points, seed)
    raise ValueError(
        f"start is {name!r}, a path that the caller has to bring; give it to init, or choose "
        "line, bezier or routes."
    )
