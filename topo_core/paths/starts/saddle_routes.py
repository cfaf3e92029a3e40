"""The lowest route between two minima over saddles whose index is proved, for exact gradients.

The search keeps a small graph: nodes are minima, edges are saddles of index 1 with a descent on each side.
The lowest route is the minimax path in that graph, and its height is the loss of a saddle. The graph grows
by two moves:

- *double-ended*: a path between two minima in different components is relaxed in a few steps, each of its
  peaks is followed to a saddle, and descents start on both sides of the saddle (the missing-connection
  strategy: Carr, Trygubenko & Wales 2005);
- *single-ended*: from a minimum the search climbs along each soft mode, in both directions, to a saddle
  nearby (Cerjan & Miller 1981).

Once the ends are joined at a height h, only saddles lower than h count. The ends then lie in different
components again, and the same moves look for a lower route. A lower path must leave both components. So the
search ends when climbs from all minima of the component of the higher end have found no saddle lower than h,
or when the budget is used up.

The search uses coordinates in which the mean of |H| along the straight line between the ends is the identity
(up to a factor; ``ScaledLoss``), so that badly scaled parameters need no more steps than others. In many
dimensions it uses the given parameters, scaled by one factor, or in their units if they are badly scaled
(``coordinate_units``).
"""

import math

import torch
from torch import Tensor

from topo_core.critical_points.eigenvector_following import follow
from topo_core.critical_points.following import FollowLimits
from topo_core.critical_points.krylov_following import follow_in_krylov_spaces
from topo_core.critical_points.monotone_descent import descend_together
from topo_core.objectives.protocol import Objective
from topo_core.paths.polyline import resample
from topo_core.paths.starts.gap_paths import GapPaths, densely_sampled, peaks
from topo_core.paths.starts.joined_saddles import join, new_saddles
from topo_core.paths.starts.relaxed_strings import relaxed
from topo_core.paths.starts.route_settings import Effort, RouteSettings
from topo_core.paths.starts.search_coordinates import search_coordinates
from topo_core.paths.starts.soft_modes import SoftModes
from topo_core.paths.starts.spliced_paths import SaddleTrails
from topo_core.paths.starts.transition_graph import Edge, TransitionGraph

_TIE = 1e-6  # of the barrier: losses of saddles that differ by less count as equal
_SAME = 1e-4  # points closer than this count as one; the unit is the distance of the ends
_RADIUS, _LONGEST = 0.03, 0.3  # first and largest trust radius
_REACH = 2.0  # largest distance of a search from its start
_STEPS = 60  # largest number of steps of a search from a peak
_CLIMB = 50  # largest number of steps of a climb; most climbs that take longer never reach a saddle
# the dimension divided by this is the number of steps between exact Hessians of a climb
_CLIMB_REFRESH = 2
_DESCENT = 300  # largest number of steps of a descent
# largest rise of a search above the height, as a fraction of the height above the lowest minimum
_AROUND = 0.1


class RouteSearch:
    """The search between two ends, in scaled coordinates in which their distance is 1.

    Attributes:
        loss: the loss in the coordinates of the search; it counts gradients and products.
        graph: the minima and saddles found so far.
        height: highest loss on the lowest route; infinite while there is no route.
        rounds: number of rounds done.
        top: loss of the higher end.
        trails: saddles of index 1 with descents on both sides, whether or not these reach minima.
        lowest_relaxed: the lowest relaxed path [n, d] between the ends, as parameters of the objective; None
            if there is no finite one.
        bound: height of an already known path; saddles above it are ignored.
        ended: why the search ended: "lowest" (no path can be lower), "explored" (climbs from the side of the
            higher end have found no lower saddle), "exhausted" (nothing is left to try), "too high" (see
            ``RouteSettings.too_high``) or "budget".
    """

    def __init__(
        self,
        objective: Objective,
        start: Tensor,
        end: Tensor,
        settings: RouteSettings,
        seed: int,
        *,
        bound: float = math.inf,
        units: Tensor | None = None,
    ) -> None:
        self.settings, self.seed, self.bound = settings, seed, bound
        self.dense = len(start) <= settings.dense
        self.loss, other = search_coordinates(objective, start, end, dense=self.dense, units=units)
        self._paths = GapPaths(self.loss, other, seed)
        ends = self.loss.coordinates(torch.stack([start, end]))
        self._given = ends
        self.top = float(self.loss.losses(ends).max())
        self._rounding = torch.finfo(start.dtype).eps * abs(self.top)
        self._unit = max(
            1e-3 * abs(self.top), 1e-300
        )  # of losses, until a relaxed path gives their range
        self.graph = TransitionGraph(_SAME)
        down = descend_together(
            self.loss,
            ends,
            radius=ends.new_full((2,), 0.01),
            longest=_LONGEST,
            tolerance=1e-13 * self._unit,
            steps=_DESCENT,
            refresh=self._refresh,
        )
        self._to_minima = down.polylines
        minima = zip(down.points, down.losses.tolist(), strict=True)
        self.ends = [self.graph.minimum(point, loss) for point, loss in minima]
        self.height = math.inf if self.ends[0] != self.ends[1] else self.top
        self.rounds, self.ended = 0, "budget"
        self.trails = list[SaddleTrails]()
        self.lowest_relaxed: Tensor | None = None
        self._lowest = math.inf
        self._too_high = False  # whether linear coordinates do not fit both ends
        self._tried: dict[tuple[int, int], int] = {}
        self._modes = SoftModes(
            self.loss, most=settings.modes, longest=_RADIUS, dense=self.dense, seed=seed
        )

    @property
    def _refresh(self) -> int | None:
        return max(8, self.loss.dimension // 2) if self.dense else None

    @property
    def effort(self) -> Effort:
        """The effort of the search so far."""
        return Effort(
            self.loss.gradient_rows,
            self.loss.product_rows,
            len(self.graph.minima),
            len(self.trails),
        )

    def run(self) -> None:
        """Alternate the two moves, until the search ends."""
        crossed = False  # whether a double-ended move was tried at the present height
        while self.loss.rows < self._budget:
            if self.height <= self.top + 4 * self._rounding:
                self.ended = "lowest"
                return
            left = self._unexplored()
            if self.dense and crossed and not left and self._higher_end_is_lowest():
                self.ended = "explored"
                return
            cross = self.rounds % 2 == 0
            moved = self._cross_gaps() if cross or not left else self._climb(left)
            if not moved and not left:
                self.ended = "exhausted"
                return
            if self._too_high:
                self.ended = "too high"
                return
            self.rounds += 1
            before = self.height
            self._update_height()
            crossed = (crossed or cross) and self.height == before

    def _update_height(self) -> None:
        """Set ``height`` to that of the lowest route of the graph."""
        route = self.graph.route(*self.ends)
        if route is not None:
            self.height = max([self.top, *(edge.loss for edge in route)])

    @property
    def _below(self) -> float:
        """Loss below which a saddle would make the route lower.

        Symmetric copies of the highest saddle of the route differ from it by rounding and do not count.
        """
        if math.isinf(self.height):
            return self.height
        return self.height - max(4 * self._rounding, _TIE * (self.height - self.top))

    def follow_peaks(self, path: Tensor) -> None:
        """Follow the peaks of ``path`` [n, d], given as parameters, to saddles; used before ``run``."""
        tops = self._peaks(self.loss.coordinates(path))
        if tops:
            starts, directions = (torch.stack(rows) for rows in zip(*tops, strict=True))
            order = self.loss.losses(starts).argsort(descending=True)
            radius = starts.new_full((len(starts),), _RADIUS)
            self._follow(starts[order], directions[order], radius, self._ceiling)

    def follow_saddles(self, points: Tensor, directions: Tensor) -> None:
        """Follow saddles of a similar loss to saddles of this one; used before ``run``.

        Args:
            points: [k, d], the saddles, as parameters.
            directions: [k, d], along their lowest modes, of any length above 0.
        """
        starts = self.loss.coordinates(points)
        ahead = self.loss.coordinates(points + directions) - starts
        self._follow(starts, ahead, starts.new_full((len(starts),), _RADIUS), math.inf)
        self._update_height()

    def follow_relaxed(self, path: Tensor, points: int, steps: int) -> None:
        """Relax a path between the ends and follow its peaks to saddles; used before ``run``.

        Args:
            path: [n, d], as parameters; it is led to the ends by straight segments.
            points: number of points of the path while it is relaxed.
            steps: of the relaxation.
        """
        ends = torch.stack([self.graph.minima[node] for node in self.ends])
        between = self.loss.coordinates(path)
        between = resample(torch.cat([ends[:1], between, ends[1:]]), points)
        paths, losses = relaxed(self.loss, between[None], steps)
        if bool(losses.isfinite().all()):
            tops = self._peaks(paths[0])
            self._keep_lowest(paths[0], float(losses.max()))
            if tops:
                starts, directions = (torch.stack(rows) for rows in zip(*tops, strict=True))
                self._follow(starts, directions, starts.new_full((len(starts),), _RADIUS), math.inf)
                self._update_height()

    def _higher_end_is_lowest(self) -> bool:
        """Whether the ends are joined, and no minimum of the component of the higher end below the height is
        lower than that end.

        Then the pass is the death of the higher end's component. If deeper minima are in the component,
        climbs that found nothing have been observed to miss a lower route.
        """
        if math.isinf(self.height):
            return False
        component = self.graph.components(self._below)
        higher = max(self.ends, key=lambda end: self.graph.losses[end])
        lowest = min(
            loss
            for loss, c in zip(self.graph.losses, component, strict=True)
            if c == component[higher]
        )
        tie = max(4 * self._rounding, _TIE * (self.height - self.top))
        return lowest >= self.graph.losses[higher] - tie

    @property
    def _budget(self) -> int:
        joined = math.isfinite(self.height)
        return self.settings.budget if joined else self.settings.unjoined

    def _unexplored(self) -> list[int]:
        """Minima from which the next climbs start, in order.

        A lower route must leave the component of the higher end below the height. So the list is empty once
        climbs from all minima of that component have found no lower saddle. (The component of the other end
        would do as well, but climbs from deep minima often fail.) Until the ends are joined, climbs start
        from both components.
        """
        component = self.graph.components(self._below)
        sides = list[list[int]]()
        for end in self.ends:
            left = self._modes.left([i for i, c in enumerate(component) if c == component[end]])
            sides.append(sorted(left, key=lambda i: (-self.graph.losses[i], i)))
        higher = sorted(
            zip(sides, self.ends, strict=True), key=lambda side: -self.graph.losses[side[1]]
        )
        if math.isinf(self.height):
            both = [i for side, _ in higher for i in side]
            return sorted(both, key=self._modes.climbed)
        return higher[0][0]

    def highest(self) -> Edge | None:
        """The highest saddle of the lowest route."""
        route = self.graph.route(*self.ends)
        return max(route, key=lambda edge: edge.loss) if route else None

    def polygon(self) -> Tensor | None:
        """The lowest route [n, d] in the parameters of the objective; None where the ends are not joined."""
        route = self.graph.route(*self.ends)
        if route is None:
            return None
        parts, node = [self._to_minima[0]], self.ends[0]
        for edge in route:
            parts.append(edge.polyline(node))
            node = edge.other(node)
        parts.append(self._to_minima[1].flip(0))
        return self.loss.theta(torch.cat(parts))

    # The double-ended move.

    def _cross_gaps(self) -> bool:
        """Relax paths between components and follow their peaks; returns whether there were pairs to try."""
        pairs = self._gaps()
        points = self.graph.minima
        attempts = [self._tried.get(pair, 0) for pair in pairs]
        self._tried.update((pair, tried + 1) for pair, tried in zip(pairs, attempts, strict=True))
        ends = [(points[i], points[j]) for i, j in pairs]
        tops = list[tuple[Tensor, Tensor]]()
        heights = list[float]()
        for path, losses in self._paths.relaxed(pairs, ends, attempts):
            if bool(losses.isfinite().all()):
                tops += self._peaks(path)
                heights.append(float(losses.max()))
                self._keep_lowest(path, heights[-1])
        if self.rounds == 0 and heights and min(heights) > self.settings.too_high:
            self._too_high = True
            return True
        if tops:
            starts, directions = (torch.stack(rows) for rows in zip(*tops, strict=True))
            ceiling = float(self.loss.losses(starts).max()) + self._unit
            radius = starts.new_full((len(starts),), _RADIUS)
            self._follow(starts, directions, radius, max(self._ceiling, ceiling))
        return bool(pairs)

    def _gaps(self) -> list[tuple[int, int]]:
        """Pairs of minima below the height in different components, one of which holds an end; nearest
        first."""
        component = self.graph.components(self._below)
        a, b = (component[end] for end in self.ends)
        points = torch.stack(self.graph.minima)
        low = [i for i, loss in enumerate(self.graph.losses) if loss < self.height]
        ranked = list[tuple[float, int, int]]()
        for i in low:
            distances = (points - points[i]).norm(dim=1).tolist()
            for j in low:
                two = {component[i], component[j]}
                if i < j and len(two) == 2 and two & {a, b}:
                    aside = 1.0 if two == {a, b} else 1.5
                    ranked.append((distances[j] * (1 + self._tried.get((i, j), 0)) * aside, i, j))
        return [(i, j) for _, i, j in sorted(ranked)[: self.settings.gaps]]

    def _keep_lowest(self, path: Tensor, height: float) -> None:
        """Keep ``path`` if it is the lowest relaxed path between the ends, for a search that finds no
        route."""
        ends = [self.graph.minima[node] for node in self.ends]
        between = torch.equal(path[0], ends[0]) and torch.equal(path[-1], ends[1])
        if between and height < self._lowest:
            self._lowest, self.lowest_relaxed = height, self.loss.theta(path)

    def _peaks(self, path: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Peaks of ``path`` [n, d] and the chords there; if no point is a peak, those of a finer sampling."""
        tops = self._tops(path)
        return tops or self._tops(densely_sampled(path))

    def _tops(self, points: Tensor) -> list[tuple[Tensor, Tensor]]:
        losses = self.loss.losses(points)
        if not self.graph.edges:
            self._unit = max(float(losses.max() - losses.min()), 1e6 * self._rounding, 1e-300)
        return peaks(points, losses, max(2 * self._rounding, 1e-9 * self._unit))

    # The single-ended move.

    def _climb(self, left: list[int]) -> bool:
        """Climb from the first of the minima ``left``, along its next soft modes."""
        if not left:
            return False
        i = left[0]
        # Small while the height is unknown, so that the first step does not leave a shallow minimum.
        rise = 0.01 * self._unit
        if math.isfinite(self.height):
            rise = min(rise, self.height - self.graph.losses[i])
        climbs = self._modes.next(i, self.graph.minima[i], rise)
        if climbs is not None:
            self._follow(
                climbs.starts,
                climbs.directions,
                climbs.radius,
                self._ceiling,
                climbs.hessians,
                steps=_CLIMB,
                refresh=max(3, self.loss.dimension // _CLIMB_REFRESH),
            )
        return True

    # Functions that both moves use.

    @property
    def _ceiling(self) -> float:
        """Loss above which a search stops without a result."""
        height = min(self.height, self.bound)
        return height + _AROUND * (height - min(self.graph.losses))

    def _follow(
        self,
        starts: Tensor,
        directions: Tensor,
        radius: Tensor,
        ceiling: float,
        hessians: Tensor | None = None,
        *,
        steps: int = _STEPS,
        refresh: int | None = None,
    ) -> None:
        """Follow ``starts`` [k, d] to saddles, and add the saddles below the height to the graph."""
        limits = FollowLimits(
            _LONGEST, tolerance=1e-9 * self._unit, steps=steps, ceiling=ceiling, reach=_REACH
        )
        if self.dense:
            result = follow(
                self.loss,
                starts,
                directions,
                limits,
                radius=radius,
                hessians=hessians,
                refresh=refresh,
            )
        else:
            left = max(0, self._budget - self.loss.rows)
            result = follow_in_krylov_spaces(
                self.loss, starts, directions, limits, radius=radius, budget=left
            )
        rows = new_saddles(self.graph, result, min(self._below, self.bound))
        if rows:
            self.trails += join(self.loss, self.graph, result, rows, 1e-13 * self._unit)
