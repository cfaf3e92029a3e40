"""The first path. It dominates the result: a local method keeps to the valley it starts in.

``line``     the straight segment of the paper (section 2.6).
``bezier``   a trained curve of degree 4 (``curves``).
``routes``   a search for the pass, for exact gradients (``routes``).
``through``  a concatenation of optimised paths: ``path.through``.
``aligned``  the line to a permuted copy of the end (``symmetry``). The copy has the same loss,
             so the height is one on the quotient by the symmetries of the network.
``warm``     the path of an earlier run.

The last three are made by the caller, who has the paths and the network.
"""

from dataclasses import dataclass

from torch import Tensor

from topo_core.objectives.protocol import Objective
from topo_core.paths.polyline import line
from topo_core.paths.profiles import Profile
from topo_core.paths.settings import PathSettings
from topo_core.paths.starts import trained_curves as curves
from topo_core.paths.starts.minimax_search import lowest_route


@dataclass(frozen=True)
class Start:
    """A first path [n, d], the rows whose gradient it took to find it, and its profile if it was measured."""

    points: Tensor
    gradient_evaluations: int
    profile: Profile | None = None


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
        return _trained(objective, start, end, settings, seed)
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


def _trained(
    objective: Objective, start: Tensor, end: Tensor, settings: PathSettings, seed: int
) -> Start:
    passes = settings.bezier_epochs
    *_, last = curves.train(objective, [curves.begin(start, end)], settings, [seed], every=passes)
    found = last[0]
    assert isinstance(found, curves.TrainedCurve)  # the last thing that training has to say
    return Start(found.points, found.gradient_evaluations, found.profile)


def initial_path(
    objective: Objective, start: Tensor, end: Tensor, settings: PathSettings, seed: int
) -> Tensor:
    """The points [n, d] of ``find_start``."""
    return find_start(objective, start, end, settings, seed).points
