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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.bezier import polygon, rounds, straight_nodes, trained
from topo_core.objective import Objective
from topo_core.path import line
from topo_core.profile import Profile, is_as_low_as, loss_profiles
from topo_core.routes import lowest_route
from topo_core.settings import PathSettings


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
        return trained_curves(objective, start[None], end[None], settings, [seed])[0]
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


def trained_curves(
    objective: Objective,
    starts: Tensor,
    ends: Tensor,
    settings: PathSettings,
    seeds: Sequence[int],
) -> list[Start]:
    """Trained curves of p pairs of ends [p, d]; one that is as low as its higher end has no more rounds."""
    found: dict[int, Start] = {}
    going, nodes = list(range(len(seeds))), straight_nodes(starts, ends)
    for part in rounds(objective, settings):
        nodes = trained(objective, nodes, settings, [seeds[i] for i in going], part)
        paths = [polygon(own, settings.points) for own in nodes]
        spent = (part.first + part.passes) * objective.batches
        if part.first + part.passes == part.total:
            done = dict.fromkeys(range(len(paths)))
        else:
            done = dict(_lowest(objective, paths, settings))
        found |= {going[k]: Start(paths[k], spent, profile) for k, profile in done.items()}
        left = [k for k in range(len(going)) if k not in done]
        going, nodes = [going[k] for k in left], nodes[left]
        if not going:
            break
    return [found[i] for i in range(len(seeds))]


def _lowest(
    objective: Objective, paths: Sequence[Tensor], settings: PathSettings
) -> Iterator[tuple[int, Profile]]:
    """Numbers and profiles of those ``paths`` than which none is lower.

    Only those none of whose points is higher than their ends are measured between the points.
    """
    losses = objective.losses(torch.cat(list(paths))).split([len(points) for points in paths])
    low = [
        i for i, at in enumerate(losses) if is_as_low_as(float(at.max()), float(at[[0, -1]].max()))
    ]
    profiles = loss_profiles(
        objective,
        [paths[i] for i in low],
        heights=settings.heights,
        tolerance=settings.height_tolerance,
    )
    for i, profile in zip(low, profiles, strict=True):
        if profile.is_as_low_as_its_end:
            yield i, profile


def initial_path(
    objective: Objective, start: Tensor, end: Tensor, settings: PathSettings, seed: int
) -> Tensor:
    """The points [n, d] of ``find_start``."""
    return find_start(objective, start, end, settings, seed).points
