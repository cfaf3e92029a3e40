"""A route between badly scaled minima, found by continuation in the strength of a ridge ½ λ ‖θ‖².

Without a regulariser some parameters of a minimum may be hundreds of times larger than others. The minimum
then lies at the end of a narrow, curved valley. An example are two outgoing weights of a network that grow
while the two hidden units become alike. No linear coordinates suit both ends of such a valley. With the ridge
the loss L + ½ λ ‖θ‖² has a minimum closer to the origin, better scaling and fewer minima (a homotopy of the
loss, as in continuation methods: Allgower & Georg 1990).

1. From both ends a point descends with a small λ, then with larger values (``inward_descents``). For a large
   λ both descents mostly end at the same minimum, so they form a path between the ends.
2. λ is reduced in steps. The saddles of the route for the last λ are followed to saddles for the new one. If
   these do not join the two points where the descents with this λ end, the last route is relaxed and its
   peaks are followed; if that does not join them either, a shorter step is tried.
3. Once λ is nearly as small as in the descents, the search over saddles looks for lower routes as well.
4. λ is reduced further while the route becomes lower. The loss without ridge is nowhere higher than the loss
   with it, so its height on the route is bounded; it is measured for every λ, and the lowest route is kept.
5. The highest saddles of that route are followed to saddles of the loss without ridge. The route is led over
   those that make it lower.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.critical_points.eigenvector_following import follow
from topo_core.critical_points.following import FollowLimits
from topo_core.critical_points.scaled_loss import ScaledLoss, metric_basis
from topo_core.objectives.protocol import Objective
from topo_core.objectives.weight_decay import WithWeightDecay
from topo_core.paths.polyline import merge_coincident
from topo_core.paths.profiles import Profile, loss_profile
from topo_core.paths.settings import PathSettings
from topo_core.paths.starts.inward_descents import InwardDescents
from topo_core.paths.starts.joined_saddles import join, new_saddles
from topo_core.paths.starts.route_settings import Effort, RouteSettings
from topo_core.paths.starts.saddle_routes import RouteSearch
from topo_core.paths.starts.spliced_paths import SaddleTrails, spliced
from topo_core.paths.starts.transition_graph import Edge, TransitionGraph

_LARGEST = (
    5  # number of powers of ten of λ above the descents in which both ends may have one minimum
)
_STEP = 10.0  # factor between two values of λ
_FINE = math.sqrt(
    10.0
)  # the same where λ is nearly as small as in the descents: there minima are many
_SHORTEST = 1.5  # a step whose factor is shorter than the square of this is not shortened
_SEARCH = 4_000  # gradients and products for a search for lower routes
_REPAIR = 3_000  # the same for a search that has to join the ends
_MOST = 40_000  # gradients and products after which λ is not changed any more
_LITTLE = 0.01  # of the barrier: fall of the height in a step of small λ at which the steps end
_HIGHEST = (
    0.3  # of the barrier: saddles of the route so far below its top are followed to the plain loss
)
_POINTS, _RELAXED = 19, 25  # points of a relaxed route, and steps of its relaxation
_SAME = 1e-4  # points closer than this count as one; the unit is the length of the route
_METRIC = 7  # number of points of the route whose Hessians determine the metric
_RADIUS, _LONGEST, _STEPS = (
    0.03,
    0.3,
    60,
)  # of a search for a saddle; the unit is the length of the route


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

    The route is None if the ends are joined for no λ, or if the loss at θ = 0 is not above both ends, since a
    ridge is then of no use.
    """
    ends = torch.stack([start, end])
    losses = objective.losses(torch.cat([ends, torch.zeros_like(start)[None]])).tolist()
    depth = losses[2] - max(losses[:2])
    if not (math.isfinite(depth) and depth > 0):
        return None, Effort()
    steps = _Continuation(objective, ends, depth, settings, seed)
    steps.run()
    return steps.route, steps.effort


@dataclass(frozen=True)
class _Saddle:
    """A saddle of a loss with a ridge: a ``point`` [d], and a vector ``along`` [d] its lowest mode."""

    point: Tensor
    along: Tensor


class _Continuation:
    """The steps from a large λ to a small one, and to the loss without ridge.

    Attributes:
        route: the lowest route so far.
        effort: the gradients, products, minima and saddles so far.
    """

    def __init__(
        self, objective: Objective, ends: Tensor, depth: float, settings: PathSettings, seed: int
    ) -> None:
        self.objective, self.settings, self.seed = objective, settings, seed
        self.inward = InwardDescents(objective, ends, depth)
        self.route: RidgedRoute | None = None
        self._searches = Effort()
        self._saddles = list[_Saddle]()  # known for the last λ, up to the height of its route
        self._near: Tensor | None = (
            None  # [n, d], the route for the last λ between the inward points
        )
        self._highest = list[_Saddle]()  # of ``route``
        self._middle = ends  # [n, d], the part of ``route`` between the inward points

    @property
    def effort(self) -> Effort:
        return self.inward.effort + self._searches

    def run(self) -> None:
        """Reduce λ, then follow the highest saddles of the lowest route to the loss without ridge."""
        self.inward.run()
        low = self.inward.ridges[-1]
        self._down_to(low, self._largest(low))
        if self._highest:
            self._to_plain_saddles()

    def _largest(self, low: float) -> float:
        """The smallest of the tested λ for which both ends have the same minimum; the largest if there is
        none."""
        for _ in range(_LARGEST):
            low *= _STEP
            if self._joined(low, RouteSettings(budget=0, unjoined=0)):
                break
        return low

    def _down_to(self, low: float, ridge: float) -> None:
        """Reduce λ from ``ridge``, at first to ``low``, then for as long as the route becomes lower."""
        factor, searched = _STEP, False
        while self.effort.gradients + self.effort.products < _MOST:
            small = ridge < 1.01 * low
            if not small and ridge < 1.01 * _STEP * low:
                factor = min(factor, _FINE)
            before, short = self._height, factor <= _SHORTEST**2
            search = not small and not searched and ridge / factor < 1.01 * _FINE * low
            repair = _REPAIR if short and not small else 0
            limits = RouteSettings(budget=_SEARCH if search else 0, unjoined=repair)
            joined = self._joined(ridge / factor, limits, relax=not small)
            if not joined and short and not self.effort.saddles:
                return  # a loss of kinks has no saddles
            if not joined and not short:
                factor = math.sqrt(factor)
                continue
            little = before - self._height <= _LITTLE * self._barrier
            if small and (little or not joined):
                return
            searched = searched or (search and joined)
            ridge, factor = ridge / factor, min(factor**1.5, _STEP)

    @property
    def _height(self) -> float:
        return math.inf if self.route is None else self.route.profile.maximum

    @property
    def _barrier(self) -> float:
        if self.route is None:
            return math.inf
        return self.route.profile.maximum - float(self.route.profile.losses[[0, -1]].max())

    def _joined(self, ridge: float, limits: RouteSettings, *, relax: bool = True) -> bool:
        """Search with the given ``ridge``; returns whether a route between the ends is known for it.

        Args:
            ridge: λ.
            limits: of the search after the known saddles have been followed.
            relax: whether the last route is relaxed, if the known saddles do not join the ends.
        """
        one, other = self.inward.under(ridge)
        if self.inward.are_one(one[-1], other[-1]):
            self._near, self._saddles = torch.stack([one[-1], other[-1]]), []
            self._keep(one, self._near, other, [])
            return True
        ridged = WithWeightDecay(self.objective, ridge)
        search = RouteSearch(ridged, one[-1], other[-1], limits, self.seed)
        if self._saddles:
            search.follow_saddles(
                torch.stack([saddle.point for saddle in self._saddles]),
                torch.stack([saddle.along for saddle in self._saddles]),
            )
        if relax and math.isinf(search.height) and self._near is not None:
            search.follow_relaxed(self._near, _POINTS, _RELAXED)
        search.run()
        self._searches += search.effort
        middle, route = search.polygon(), search.graph.route(*search.ends)
        if middle is None or route is None:
            return False
        self._near = middle
        known = search.graph.edges if relax else route
        self._saddles = [_saddle(search, edge) for edge in known if edge.loss <= search.height]
        least = search.height - _HIGHEST * (search.height - search.top)
        self._keep(
            one, middle, other, [_saddle(search, edge) for edge in route if edge.loss >= least]
        )
        return True

    def _keep(self, one: Tensor, middle: Tensor, other: Tensor, highest: list[_Saddle]) -> None:
        """Keep the route over ``one``, ``middle`` and ``other`` reversed, if it is the lowest."""
        path = torch.cat([one[:-1], middle, other.flip(0)[1:]])
        path[0], path[-1] = self.inward.ends
        path, _ = merge_coincident(path)
        profile = loss_profile(
            self.objective,
            path,
            heights=self.settings.heights,
            tolerance=self.settings.height_tolerance,
        )
        if profile.maximum < self._height:
            self.route = RidgedRoute(path, profile, None)
            self._middle, self._highest = middle, highest

    def _to_plain_saddles(self) -> None:
        """Follow the saddles to saddles of the loss without ridge, and lead the route over them."""
        assert self.route is not None
        loss, depth = self._along_route(), self.inward.depth
        points = torch.stack([saddle.point for saddle in self._highest])
        along = torch.stack([saddle.along for saddle in self._highest])
        starts = loss.coordinates(points)
        limits = FollowLimits(
            _LONGEST,
            tolerance=1e-9 * depth,
            steps=_STEPS,
            ceiling=self._height + 0.1 * depth,
            reach=1.0,
        )
        radius = starts.new_full((len(starts),), _RADIUS)
        ahead = loss.coordinates(points + along) - starts
        result = follow(loss, starts, ahead, limits, radius=radius)
        graph = TransitionGraph(_SAME)
        fresh = new_saddles(graph, result, self._height)
        if fresh:
            trails = join(loss, graph, result, fresh, 1e-13 * depth)
            path = spliced(
                self.objective, self.route.points, self.route.profile, trails, self.settings
            )
            if path.top is not None:
                self.route = RidgedRoute(path.points, path.profile, path.top)
        self._searches += Effort(loss.gradient_rows, loss.product_rows, 0, len(fresh))

    def _along_route(self) -> ScaledLoss:
        """The loss without ridge in coordinates in which the mean of |H| along the route is the identity and
        the length of the route is 1."""
        middle = self._middle
        where = torch.linspace(0, len(middle) - 1, _METRIC).round().long().to(middle.device)
        plain = ScaledLoss(self.objective, middle[0])
        hessians = plain.hessians(middle[where] - middle[0])
        basis = metric_basis(hessians[hessians.isfinite().flatten(1).all(1)])
        length = float((middle.diff(dim=0) @ torch.linalg.inv(basis).T).norm(dim=1).sum())
        loss = ScaledLoss(self.objective, middle[0], basis * length)
        loss.product_rows = plain.product_rows
        return loss


def _saddle(search: RouteSearch, edge: Edge) -> _Saddle:
    point, ahead = search.loss.theta(torch.stack([edge.point, edge.sides[0][1]]))
    return _Saddle(point, ahead - point)
