"""A route between badly scaled minima, found by continuation in the strength of a ridge ½ λ ‖θ‖².

Without a regulariser some parameters of a minimum may be hundreds of times larger than others. The minimum
then lies at the end of a narrow, curved valley. An example are two outgoing weights of a network that grow
while the two hidden units become alike. No linear coordinates suit both ends of such a valley. With the ridge
the loss L + ½ λ ‖θ‖² has a minimum closer to the origin, and a larger λ gives better scaling (a homotopy of
the loss, as in continuation methods: Allgower & Georg 1990).

1. From both ends a point descends with a small λ, then with larger values. Each λ is chosen so that the ridge
   at the point is a given fraction of the depth, the difference between the loss at θ = 0 and that of the
   higher end. So in each descent the loss without ridge rises by at most that amount.
2. The search over saddles looks for a route between the two resulting points with the last λ. If the search
   does not join them, other values of λ are tried.
3. The loss without ridge is nowhere higher than the loss with it, so the height of the route is bounded. The
   peaks of the route are followed to saddles of the loss without ridge. The route is led over those saddles
   that make it lower.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.critical_points.eigenvector_following import follow
from topo_core.critical_points.following import FollowLimits
from topo_core.critical_points.monotone_descent import descend_together
from topo_core.critical_points.scaled_loss import ScaledLoss, metric_basis
from topo_core.objectives.curvature import full_gradients, hessian_vector_products
from topo_core.objectives.protocol import Objective, Step
from topo_core.paths.polyline import merge_coincident
from topo_core.paths.profiles import Profile, loss_profile
from topo_core.paths.settings import PathSettings
from topo_core.paths.starts.gap_paths import peaks
from topo_core.paths.starts.joined_saddles import join, new_saddles
from topo_core.paths.starts.route_settings import Effort, RouteSettings
from topo_core.paths.starts.saddle_routes import RouteSearch
from topo_core.paths.starts.spliced_paths import SaddleTrails, spliced
from topo_core.paths.starts.transition_graph import TransitionGraph

_SAME = 1e-4  # points closer than this count as one; the unit is the length of the route
# of the norm of the ends: if both descents end this close together, no route is needed
_MERGED = 1e-6
_PART = 0.1  # of the depth: the value of the ridge at a point before its descent
_GROWTH = 4.0  # smallest factor of λ from one descent to the next
_DESCENT = 300  # largest number of steps of a descent
_REFRESH = 8  # steps between exact Hessians in a descent
_FACTORS = (1.0, 0.1, 10.0)  # factors of λ, tried in this order until the ends are joined
_SEARCH = RouteSettings(budget=10_000, unjoined=12_000)
_SMALLER = (0.1, 0.01)  # factors of that λ, with which the route is then refined
_AGAIN = RouteSettings(budget=3_000, unjoined=3_000)
_ROUNDS = 3  # largest number of rounds in which peaks are followed
_PEAKS = 8  # largest number of peaks followed in one round, the highest ones
_METRIC = 7  # number of points of the route whose Hessians determine the metric
_RADIUS, _LONGEST, _STEPS = (
    0.03,
    0.3,
    60,
)  # of a search for a saddle; the unit is the length of the route


@dataclass(frozen=True)
class RidgedObjective:
    """The loss ``objective`` + ½ ``ridge`` ‖θ‖², with exact gradients and Hessian-vector products."""

    objective: Objective
    ridge: float

    @property
    def dimension(self) -> int | None:
        return self.objective.dimension

    @property
    def batches(self) -> int:
        return 1

    def losses(self, points: Tensor) -> Tensor:
        """Losses [k] float64 at ``points`` [k, d]."""
        return self.objective.losses(points) + self._added(points)

    def full_gradients(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Losses [k] float64 and gradients [k, d]."""
        losses, gradients = full_gradients(self.objective, points)
        return losses + self._added(points), gradients + self.ridge * points

    def gradients(self, points: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """As ``full_gradients``, since there are no minibatches."""
        del step
        return self.full_gradients(points)

    def hessian_vector_products(self, points: Tensor, vectors: Tensor) -> Tensor:
        """Products [k, d] of the Hessians at ``points`` [k, d] with ``vectors`` [k, d]."""
        return hessian_vector_products(self.objective, points, vectors) + self.ridge * vectors

    def _added(self, points: Tensor) -> Tensor:
        return 0.5 * self.ridge * points.double().square().sum(1)


@dataclass(frozen=True)
class RidgedRoute:
    """A route that was found by way of a loss with a ridge.

    Attributes:
        points: [n, d], from one end to the other.
        profile: the losses without ridge along the route.
        top: the saddle of the loss without ridge over which the route was led last; None if no saddle made
            the route lower.
    """

    points: Tensor
    profile: Profile
    top: SaddleTrails | None


def ridged_route(
    objective: Objective, start: Tensor, end: Tensor, settings: PathSettings, seed: int
) -> tuple[RidgedRoute | None, Effort]:
    """A route from ``start`` to ``end`` [d], and the effort of the search.

    The route is None if the search joins the ends for no λ, or if the loss at θ = 0 is not above both ends,
    since a ridge is then of no use.
    """
    ends = torch.stack([start, end])
    losses = objective.losses(torch.cat([ends, torch.zeros_like(start)[None]])).tolist()
    depth = losses[2] - max(losses[:2])
    if not (math.isfinite(depth) and depth > 0):
        return None, Effort()
    inward = _Inward(objective, ends, depth)
    inward.run()
    for factor in _FACTORS:
        low = _under(inward, factor * inward.ridge, None, _SEARCH, settings, seed)
        if low is not None or not inward.effort.saddles:  # a loss of kinks has no saddles
            break
    if low is None:
        return None, inward.effort
    for fraction in _SMALLER:
        lower = _under(inward, fraction * low.ridge, low.middle, _AGAIN, settings, seed)
        if lower is not None and lower.profile.maximum < low.profile.maximum:
            low = lower
    low.run(depth)
    return RidgedRoute(low.points, low.profile, low.top), inward.effort + low.effort


def _under(
    inward: "_Inward",
    ridge: float,
    near: Tensor | None,
    search_settings: RouteSettings,
    settings: PathSettings,
    seed: int,
) -> "_RefinedPath | None":
    """The route with the given ``ridge``; None if the search does not join the ends.

    Args:
        inward: the descents from both ends.
        ridge: λ.
        near: [n, d], a route for another λ, whose peaks are followed first; None for none.
        search_settings: the limits of the search.
        settings: how losses along a path are measured.
        seed: the seed of the search.
    """
    one, other = inward.under(ridge)
    apart = float((one[-1] - other[-1]).norm())
    if apart <= _MERGED * float(inward.ends.norm()):
        middle: Tensor | None = torch.stack([one[-1], other[-1]])
    else:
        ridged = RidgedObjective(inward.objective, ridge)
        search = RouteSearch(ridged, one[-1], other[-1], search_settings, seed)
        if near is not None:
            search.follow_peaks(near)
        search.run()
        inward.effort += search.effort
        middle = search.polygon()
    if middle is None:
        return None
    path = torch.cat([one[:-1], middle, other.flip(0)[1:]])
    path[0], path[-1] = inward.ends
    path, _ = merge_coincident(path)
    return _RefinedPath(inward.objective, path, middle, settings, ridge)


class _Inward:
    """Descents from both ends with increasing ridges.

    Attributes:
        trails: for each end, the polylines [m, d] of its descents, in order.
        ridge: the last λ.
        effort: the gradients and products that the descents took.
    """

    def __init__(self, objective: Objective, ends: Tensor, depth: float) -> None:
        self.objective, self.ends, self.depth = objective, ends, depth
        self.trails = [[end[None]] for end in ends]
        self.ridge, self.effort = 0.0, Effort()

    def run(self) -> None:
        """Descend with increasing ridges, until λ no longer grows by ``_GROWTH``."""
        while True:
            size = max(float(trail[-1][-1].square().sum()) for trail in self.trails)
            wanted = 2 * _PART * self.depth / max(size, 1e-300)
            if wanted < _GROWTH * self.ridge or not math.isfinite(wanted):
                return
            self.ridge = wanted
            for trail in self.trails:
                trail.append(self._descent(trail[-1][-1], wanted)[1:])

    def under(self, ridge: float) -> list[Tensor]:
        """The descents from both ends [m, d], each continued to a minimum of the loss with ``ridge``."""
        whole = [torch.cat(trail) for trail in self.trails]
        return [torch.cat([trail, self._descent(trail[-1], ridge)[1:]]) for trail in whole]

    def _descent(self, point: Tensor, ridge: float) -> Tensor:
        ridged = RidgedObjective(self.objective, ridge)
        plain = ScaledLoss(ridged, point)
        here = torch.zeros_like(point)[None]
        loss = ScaledLoss(ridged, point, metric_basis(plain.hessians(here)))
        down = descend_together(
            loss,
            here,
            radius=point.new_full((1,), 0.1 * math.sqrt(self.depth)),
            longest=1e3 * math.sqrt(self.depth),
            tolerance=1e-13 * self.depth,
            steps=_DESCENT,
            refresh=_REFRESH,
        )
        for each in (plain, loss):
            self.effort += Effort(each.gradient_rows, each.product_rows)
        return loss.theta(down.polylines[0])


class _RefinedPath:
    """A path that is lowered by leading it over saddles near its peaks.

    Args:
        objective: the loss without ridge.
        points: [n, d], the path.
        middle: [m, d], the part of the path between the ends of the two descents.
        settings: how losses along a path are measured.
        ridge: the λ with which the path was found.
    """

    def __init__(
        self,
        objective: Objective,
        points: Tensor,
        middle: Tensor,
        settings: PathSettings,
        ridge: float,
    ) -> None:
        self.objective, self.settings, self.points = objective, settings, points
        self.middle, self.ridge = middle, ridge
        self.profile = self._measured()
        self.top: SaddleTrails | None = None
        self.saddles = 0
        where = torch.linspace(0, len(middle) - 1, _METRIC).round().long().to(middle.device)
        plain = ScaledLoss(objective, middle[0])
        hessians = plain.hessians(middle[where] - middle[0])
        hessians = hessians[hessians.isfinite().flatten(1).all(1)]
        basis = metric_basis(hessians)
        inverse = torch.linalg.inv(basis)
        # The whole path, if the two descents end at the same point.
        unit = middle if float((middle[-1] - middle[0]).norm()) > 0 and len(middle) > 2 else points
        length = float((unit.diff(dim=0) @ inverse.T).norm(dim=1).sum())
        self.loss = ScaledLoss(objective, middle[0], basis * length)
        self.loss.product_rows = plain.product_rows
        self._graph = TransitionGraph(_SAME)

    def run(self, depth: float) -> None:
        """Follow peaks to saddles, in rounds, until no saddle makes the path lower.

        Args:
            depth: scale of tolerances, in units of loss.
        """
        for _ in range(_ROUNDS):
            points = self.loss.coordinates(self.points)
            losses = self.loss.losses(points)
            tops = sorted(
                peaks(points, losses, 1e-9 * depth),
                key=lambda top: -float(self.loss.losses(top[0][None])),
            )[:_PEAKS]
            if not tops:
                return
            starts, directions = (torch.stack(rows) for rows in zip(*tops, strict=True))
            result = follow(
                self.loss,
                starts,
                directions,
                FollowLimits(
                    _LONGEST,
                    tolerance=1e-9 * depth,
                    steps=_STEPS,
                    ceiling=self.profile.maximum + _PART * depth,
                    reach=1.0,
                ),
                radius=starts.new_full((len(starts),), _RADIUS),
            )
            fresh = new_saddles(self._graph, result, self.profile.maximum)
            if not fresh:
                return
            trails = join(self.loss, self._graph, result, fresh, 1e-13 * depth)
            self.saddles += len(trails)
            path = spliced(self.objective, self.points, self.profile, trails, self.settings)
            if path.top is None:
                return
            self.points, self.profile, self.top = path.points, path.profile, path.top

    @property
    def effort(self) -> Effort:
        """The gradients, products and saddles so far."""
        return Effort(self.loss.gradient_rows, self.loss.product_rows, 0, self.saddles)

    def _measured(self) -> Profile:
        return loss_profile(
            self.objective,
            self.points,
            heights=self.settings.heights,
            tolerance=self.settings.height_tolerance,
        )
