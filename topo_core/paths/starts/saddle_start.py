"""The start ``saddles``: the lowest route over verified saddles, an initial path that needs no further
step."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from topo_core.critical_points.classification import classify_point
from topo_core.critical_points.verdicts import CriticalPoint, Verdict
from topo_core.objectives.protocol import Objective
from topo_core.paths.polyline import line, merge_coincident, resample
from topo_core.paths.profiles import is_as_low_as, loss_profile
from topo_core.paths.settings import LARGE, SEARCHED, SMALL, ResolvedSettings
from topo_core.paths.solver import PathSolver
from topo_core.paths.starts.protocol import Start
from topo_core.paths.starts.ridge_continuation import ridged_route
from topo_core.paths.starts.route_settings import Effort, RouteSettings
from topo_core.paths.starts.saddle_routes import RouteSearch
from topo_core.paths.starts.spliced_paths import spliced
from topo_core.paths.starts.trained_curves import trained_start
from topo_core.paths.verified_pass import VerifiedPass

_CLOSE = 1e-3  # of the barrier: largest height of a polygon above its highest saddle
_EPOCHS = 150  # epochs in which a trained curve is relaxed before its peaks are followed
_FAR_ABOVE = 2.0  # of the difference of the losses at θ = 0 and at the higher end
_BEFORE_A_CURVE = RouteSettings(unjoined=1_000)
"""In 49 to 128 dimensions a search that does not join the ends in its first round mostly never does."""
_BELOW_A_PATH = RouteSettings(unjoined=3_000)
"""In many dimensions most searches do not join the ends, and the gradients are better spent on the path."""


def saddles_start(
    objective: Objective, start: Tensor, end: Tensor, resolved: ResolvedSettings, seed: int
) -> Start:
    """The lowest of a route over saddles of index 1 and a trained curve, with the verification of its pass.

    In up to 48 dimensions the search for routes comes first and usually suffices. If it verifies no pass, a
    route is searched by way of a loss with a ridge, and then a curve is trained. The search ends at once if
    its first relaxed path is far above the loss at θ = 0: then linear coordinates do not fit both ends. In
    49 to 128 dimensions the search has few gradients unless it joins the ends with them, and a curve follows.
    In 129 to 1,000 dimensions the curve comes first. It is relaxed for ``_EPOCHS`` epochs, and its peaks are
    then followed to saddles. If these saddles join the ends, the search continues below the height of the
    curve. In more dimensions, or in float32, the start is a trained curve.
    """
    if len(start) > LARGE or start.dtype != torch.float64:
        return trained_start(objective, start, end, resolved, seed)
    if torch.equal(start, end):
        return Start(line(start, end, resolved.settings.points))
    if len(start) > SEARCHED:
        return _over_a_curve(objective, start, end, resolved, seed)
    if len(start) > SMALL:
        route = _route(objective, start, end, resolved, seed, _BEFORE_A_CURVE)
        if route.verified is not None:
            return route
        return _lower(route, _over_a_curve(objective, start, end, resolved, seed))
    too_high = _too_high(objective, start, end)
    limits = RouteSettings(too_high=too_high)
    route = _route(objective, start, end, resolved, seed, limits)
    if route.verified is not None:
        return route
    ridged = _by_way_of_a_ridge(objective, start, end, resolved, seed)
    if ridged.verified is not None:
        return _lower(ridged, route)
    if _height(route) > too_high:
        if _height(ridged) < too_high:
            return _lower(ridged, route)
        route = _lower(route, _route(objective, start, end, resolved, seed, RouteSettings()))
    return _lower(_lower(route, ridged), _curve(objective, start, end, resolved, seed))


def _too_high(objective: Objective, start: Tensor, end: Tensor) -> float:
    """The loss twice as far above the higher end as that at θ = 0; infinite unless θ = 0 is above both
    ends."""
    one, other, zero = objective.losses(torch.stack([start, end, torch.zeros_like(start)])).tolist()
    higher = max(one, other)
    return higher + _FAR_ABOVE * (zero - higher) if higher < zero else math.inf


def _over_a_curve(
    objective: Objective, start: Tensor, end: Tensor, resolved: ResolvedSettings, seed: int
) -> Start:
    """A trained and relaxed curve, or the lower path over saddles found from its peaks."""
    curve = _curve(objective, start, end, resolved, seed)
    assert curve.profile is not None  # a curve is measured
    if is_as_low_as(curve.profile.maximum, curve.profile.losses[[0, -1]], start.dtype):
        return curve
    return _below(objective, start, end, resolved, seed, curve)


def _lower(route: Start, curve: Start) -> Start:
    """The lower of two measured starts, or the first if they are equal; its gradients are the sum of both."""
    spent = route.gradient_evaluations + curve.gradient_evaluations
    lower = curve if _height(curve) < _height(route) else route
    return replace(lower, gradient_evaluations=spent)


def _height(start: Start) -> float:
    """The height of a start; infinite if it is not known or not finite."""
    height = math.inf if start.profile is None else start.profile.maximum
    return height if math.isfinite(height) else math.inf


def _curve(
    objective: Objective, start: Tensor, end: Tensor, resolved: ResolvedSettings, seed: int
) -> Start:
    """A trained curve; in more than ``SMALL`` dimensions, where steps are robust, it is also relaxed."""
    curve = trained_start(objective, start, end, resolved, seed)
    epochs = min(_EPOCHS, resolved.epochs) if len(start) > SMALL else 0
    solver = PathSolver(objective, replace(resolved, epochs=epochs))
    state = solver.begin(
        curve.points, spent=curve.gradient_evaluations, profile=curve.profile, units=curve.units
    )
    state = solver.advance(state, seed, until_epoch=epochs)
    profile = state.best_profile or solver.measure(state.best)
    return Start(state.best, state.gradient_evaluations, profile, units=curve.units)


def _route(
    objective: Objective,
    start: Tensor,
    end: Tensor,
    resolved: ResolvedSettings,
    seed: int,
    limits: RouteSettings,
) -> Start:
    """The lowest route that a new search finds; without one, the lowest path that the search relaxed."""
    search = RouteSearch(objective, start, end, limits, seed)
    search.run()
    return _found(objective, search, start, end, resolved, seed)


def _below(
    objective: Objective,
    start: Tensor,
    end: Tensor,
    resolved: ResolvedSettings,
    seed: int,
    curve: Start,
) -> Start:
    """A path lower than ``curve`` over saddles that were found from its peaks; ``curve`` if there is none.

    If those saddles join the ends, the search for lower routes continues from them. Otherwise the curve is
    led over them.
    """
    assert curve.profile is not None  # a curve is measured
    bound = curve.profile.maximum
    search = RouteSearch(objective, start, end, _BELOW_A_PATH, seed, bound=bound, units=curve.units)
    search.follow_peaks(curve.points)
    if search.polygon() is not None:
        search.run()
        return _lower(_found(objective, search, start, end, resolved, seed), curve)
    path = spliced(objective, curve.points, curve.profile, search.trails, resolved.settings)
    spent = curve.gradient_evaluations + search.loss.rows
    if path.top is None:
        return replace(curve, gradient_evaluations=spent)
    verified = None
    if path.profile.maximum <= path.top.loss + _CLOSE * (path.top.loss - search.top):
        point = classify_point(objective, path.top.point, seed=seed)
        spent += point.gradients + point.products
        verified = verified_pass(point, path.top.lowest, search.effort, searched=False)
    if verified is not None:
        return Start(path.points, spent, path.profile, verified)
    other = Start(path.points, 0, path.profile, units=curve.units)
    return _lower(replace(curve, gradient_evaluations=spent), other)


def _by_way_of_a_ridge(
    objective: Objective, start: Tensor, end: Tensor, resolved: ResolvedSettings, seed: int
) -> Start:
    """The route of ``ridged_route``; the straight line if there is none."""
    settings = resolved.settings
    route, effort = ridged_route(objective, start, end, settings, seed)
    spent = effort.gradients + effort.products
    if route is None:
        return Start(line(start, end, settings.points), spent)
    verified, top = None, route.top
    barrier = route.profile.maximum - float(route.profile.losses[[0, -1]].max())
    if top is not None and route.profile.maximum <= top.loss + _CLOSE * barrier:
        point = classify_point(objective, top.point, seed=seed)
        spent += point.gradients + point.products
        verified = verified_pass(point, top.lowest, effort, searched=False)
    return Start(route.points, spent, route.profile, verified)


def _found(
    objective: Objective,
    search: RouteSearch,
    start: Tensor,
    end: Tensor,
    resolved: ResolvedSettings,
    seed: int,
) -> Start:
    """The lowest route of a ``search`` that was run; without one, the lowest path that the search relaxed."""
    settings, spent = resolved.settings, search.loss.rows
    polygon = search.polygon()
    if polygon is None:
        polygon = _fallback(search, start, end, settings.points)
    else:
        polygon[0], polygon[-1] = start, end
        polygon, _ = merge_coincident(polygon)
    profile = loss_profile(
        objective, polygon, heights=settings.heights, tolerance=settings.height_tolerance
    )
    verified = _verified(objective, search, profile.maximum, seed)
    if verified is not None:
        spent = verified.gradients + verified.products
    return Start(polygon, spent, profile, verified)


def _fallback(search: RouteSearch, start: Tensor, end: Tensor, points: int) -> Tensor:
    """The lowest relaxed path [points, d] between the ends; the straight line if there is none."""
    path = search.lowest_relaxed
    if path is None:
        return line(start, end, points)
    return resample(torch.cat([start[None], path[1:-1], end[None]]), points)


def _verified(
    objective: Objective, search: RouteSearch, height: float, seed: int
) -> VerifiedPass | None:
    """The verification of the highest saddle of the route.

    None if the index of the saddle is not proved to be 1, or if the polygon is higher than the saddle.
    """
    edge = search.highest()
    if edge is None:
        return None
    if not height <= edge.loss + _CLOSE * (edge.loss - search.top):
        return None
    point = classify_point(objective, search.loss.theta(edge.point), seed=seed)
    i, j = edge.ends
    joins = search.graph.losses[i], search.graph.losses[j]
    return verified_pass(point, joins, search.effort, searched=search.ended == "explored")


def verified_pass(
    point: CriticalPoint,
    joins: tuple[float, float],
    effort: Effort,
    *,
    searched: bool,
) -> VerifiedPass | None:
    """The verification of a pass at ``point``; None if the index of the point is not proved to be 1."""
    if not (point.verdict is Verdict.SADDLE and point.index == 1 and point.index_is_exact):
        return None
    return VerifiedPass(
        loss=point.loss,
        gradient_norm=point.gradient_norm,
        eigenvalues=point.eigenvalues[:2],
        error=max(point.residuals[:2]),
        joins=joins,
        searched=searched,
        minima=effort.minima,
        saddles=effort.saddles,
        gradients=effort.gradients + point.gradients,
        products=effort.products + point.products,
    )
