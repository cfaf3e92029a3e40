"""The start ``saddles``: the lowest route over verified saddles, a first path that needs no further step."""

import torch
from torch import Tensor

from topo_core.critical_points.classification import classify_point
from topo_core.critical_points.verdicts import Verdict
from topo_core.objectives.protocol import Objective
from topo_core.paths.polyline import line, merge_coincident, resample
from topo_core.paths.profiles import loss_profile
from topo_core.paths.settings import LARGE, Resolved
from topo_core.paths.starts.first_path import Start
from topo_core.paths.starts.saddle_routes import RouteSearch, RouteSettings
from topo_core.paths.starts.trained_curves import trained_start
from topo_core.paths.verified_pass import VerifiedPass

_CLOSE = 1e-3  # of the barrier, by which a polygon may be above its saddle


def saddles_start(
    objective: Objective, start: Tensor, end: Tensor, resolved: Resolved, seed: int
) -> Start:
    """The lowest route over saddles of index 1 that the search finds, and the verification of its pass.

    Without a route the start is the lowest path that the search relaxed, and the optimisation continues
    from there. In more than 1,000 dimensions, or in float32, the start is a trained curve.
    """
    if len(start) > LARGE or start.dtype != torch.float64:
        return trained_start(objective, start, end, resolved, seed)
    if torch.equal(start, end):
        return Start(line(start, end, resolved.settings.points))
    search = RouteSearch(objective, start, end, RouteSettings(), seed)
    search.run()
    polygon = search.polygon()
    if polygon is None:
        return Start(_fallback(search, start, end, resolved.settings.points), search.loss.rows)
    polygon[0], polygon[-1] = start, end
    polygon, _ = merge_coincident(polygon)
    settings = resolved.settings
    profile = loss_profile(
        objective, polygon, heights=settings.heights, tolerance=settings.height_tolerance
    )
    verified = _verified(objective, search, profile.maximum, seed)
    spent = search.loss.rows
    if verified is not None:
        spent = verified.gradients + verified.products
    return Start(polygon, spent, profile, verified)


def _fallback(search: RouteSearch, start: Tensor, end: Tensor, points: int) -> Tensor:
    """The lowest relaxed path between the ends, else the straight line."""
    path = search.lowest_relaxed
    if path is None:
        return line(start, end, points)
    return resample(torch.cat([start[None], path[1:-1], end[None]]), points)


def _verified(
    objective: Objective, search: RouteSearch, height: float, seed: int
) -> VerifiedPass | None:
    """The verification of the highest saddle of the route.

    None where its index is not proved to be 1, or where the polygon is higher than the saddle.
    """
    edge = search.highest()
    if edge is None:
        return None
    barrier = edge.loss - search.top
    point = classify_point(objective, search.loss.theta(edge.point), seed=seed)
    index_one = point.verdict is Verdict.SADDLE and point.index == 1 and point.index_is_exact
    if not index_one or not height <= edge.loss + _CLOSE * barrier:
        return None
    i, j = edge.ends
    return VerifiedPass(
        loss=point.loss,
        gradient_norm=point.gradient_norm,
        eigenvalues=point.eigenvalues[:4],
        error=max(point.residuals[:4]),
        joins=(search.graph.losses[i], search.graph.losses[j]),
        searched=search.ended == "explored",
        minima=len(search.graph.minima),
        saddles=len(search.graph.edges),
        gradients=search.loss.gradient_rows + point.gradients,
        products=search.loss.product_rows + point.products,
    )
