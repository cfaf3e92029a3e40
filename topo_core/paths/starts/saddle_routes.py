"""The lowest route between two minima through saddles whose index is proved, for exact gradients.

The search keeps a small graph: nodes are minima, edges are saddles of index 1 with a descent on each side. The lowest
route is the minimax path in that graph, and its height is the loss of a saddle. The graph grows by two moves:

- *double-ended*: a path between two minima in different components is relaxed for a short while, each of its peaks is
  followed to a saddle, and the saddle is descended from on both sides (the missing-connection strategy of OPTIM and
  pele: Carr, Trygubenko & Wales 2005);
- *single-ended*: from a minimum up along each soft mode, in both directions, to a saddle next to it (Cerjan & Miller 1981).

Once the ends are joined at a height h, only edges lower than h count, so the ends lie in two components again and the
same moves look for a lower route, until both are exhausted or the budget is spent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from topo_core.critical_points.eigenvector_following import Followed, follow
from topo_core.critical_points.monotone_descent import Descents, descend_together
from topo_core.critical_points.scaled_loss import ScaledLoss, geometric_basis, metric_basis
from topo_core.objectives.protocol import Objective
from topo_core.paths.starts.relaxed_strings import relaxed
from topo_core.random_streams import generator

_SAME = 1e-4  # points closer than this, in distances of the ends, are one
_POINTS = 13  # of a relaxed path
_RELAX = 50  # its steps


@dataclass(frozen=True)
class RouteSettings:
    """What the search may spend.

    Attributes:
        budget: gradients and Hessian-vector products.
        modes: soft modes climbed from a minimum, in both directions.
        gaps: paths relaxed together.
        quiet: rounds without a lower route after which the search ends.
    """

    budget: int = 6000
    modes: int = 12
    gaps: int = 3
    quiet: int = 3


@dataclass
class Edge:
    """A saddle of index 1, in scaled coordinates.

    Attributes:
        point: [d].
        loss: there.
        ends: numbers of the two minima.
        sides: the two polylines [m, d], each from the saddle to its minimum.
    """

    point: Tensor
    loss: float
    ends: tuple[int, int]
    sides: tuple[Tensor, Tensor]
    values: Tensor
    gradient: Tensor
    by: str


@dataclass
class Graph:
    """Minima and the saddles between them, in scaled coordinates."""

    minima: list[Tensor] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)

    def minimum(self, point: Tensor, loss: float) -> int:
        """The number of the minimum at ``point``, a new one if it is not known."""
        if self.minima:
            distances = (torch.stack(self.minima) - point).norm(dim=1)
            nearest = int(distances.argmin())
            if float(distances[nearest]) <= _SAME:
                return nearest
        self.minima.append(point)
        self.losses.append(loss)
        return len(self.minima) - 1

    def knows(self, point: Tensor) -> bool:
        """Whether there is a saddle at ``point``."""
        return any(float((edge.point - point).norm()) <= _SAME for edge in self.edges)

    def components(self, below: float) -> list[int]:
        """The component of each minimum when only saddles lower than ``below`` count."""
        parents = list(range(len(self.minima)))
        for edge in self.edges:
            if edge.loss < below:
                i, j = (_root(parents, end) for end in edge.ends)
                parents[i] = j
        return [_root(parents, i) for i in range(len(parents))]

    def route(self, start: int, end: int) -> list[Edge] | None:
        """The edges of the minimax route, in order; None where there is none."""
        if start == end:
            return []
        parents = list(range(len(self.minima)))
        tree: list[Edge] = []
        for edge in sorted(self.edges, key=lambda edge: edge.loss):
            i, j = (_root(parents, node) for node in edge.ends)
            if i != j:
                parents[i] = j
                tree.append(edge)
            if _root(parents, start) == _root(parents, end):
                return _walk(tree, start, end)
        return None


def _root(parents: list[int], i: int) -> int:
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i


def _walk(tree: Sequence[Edge], start: int, end: int) -> list[Edge]:
    """The edges from ``start`` to ``end`` in a forest that joins them."""
    came: dict[int, tuple[int, Edge] | None] = {start: None}
    front = [start]
    while end not in came:
        here = front.pop()
        for edge in tree:
            if here in edge.ends:
                other = edge.ends[0] if edge.ends[1] == here else edge.ends[1]
                if other not in came:
                    came[other] = here, edge
                    front.append(other)
    edges: list[Edge] = []
    node = end
    while (step := came[node]) is not None:
        node, edge = step
        edges.append(edge)
    return edges[::-1]


class RouteSearch:
    """The search between two ends; ``run`` until it is done."""

    def __init__(
        self, objective: Objective, start: Tensor, end: Tensor, settings: RouteSettings, seed: int
    ) -> None:
        self.settings, self.seed = settings, seed
        plain = ScaledLoss(objective, start)
        both = torch.stack([start, end])
        hessians = plain.hessians(both)
        basis = metric_basis(hessians)
        assert basis is not None
        chord = float((torch.linalg.inv(basis) @ (end - start)).norm())
        self.loss = ScaledLoss(objective, start, basis * chord)
        self.loss.product_rows += plain.product_rows
        self.second = ScaledLoss(objective, start, geometric_basis(hessians) * chord)
        self.graph = Graph()
        ends = self.loss.coordinates(both)
        values = self.loss.losses(ends)
        self.top = float(values.max())
        self.unit = 1e-3 * abs(self.top) + 1e-300
        self.log: list[str] = []
        self.to_minima = self._descend(ends, radius=0.01)
        self.ends = [
            self.graph.minimum(point, float(loss))
            for point, loss in zip(self.to_minima.points, self.to_minima.losses, strict=True)
        ]
        self.ends_given = ends
        self.height = math.inf if self.ends[0] != self.ends[1] else self.top
        self.tried: dict[tuple[int, int], int] = {}
        self.climbed: dict[int, int] = {}
        self.spectra: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        self.best_raw: tuple[float, Tensor] | None = None

    def run(self) -> None:
        """Search until a round's moves are exhausted, or nothing new is met, or the budget is spent."""
        quiet = 0
        self.rounds = 0
        self.why = "budget"
        while self.loss.rows < self.settings.budget:
            if self.height <= self.top + 1e-9 * abs(self.top):
                self.why = "lowest"
                return
            before = self.height
            moved = self._gaps() if self.rounds % 2 == 0 else self._climbs()
            moved = moved or (self._climbs() if self.rounds % 2 == 0 else self._gaps())
            self.rounds += 1
            if not moved:
                self.why = "exhausted"
                return
            self._update()
            quiet = 0 if self.height < before or math.isinf(self.height) else quiet + 1
            if quiet >= self.settings.quiet:
                self.why = "quiet"
                return

    def _update(self) -> None:
        route = self.graph.route(*self.ends)
        if route is not None:
            self.height = max([self.top, *(edge.loss for edge in route)])

    # moves

    def _gaps(self) -> bool:
        """Relax paths across gaps; whether there were any."""
        component = self.graph.components(self.height)
        a, b = component[self.ends[0]], component[self.ends[1]]
        low = [i for i, loss in enumerate(self.graph.losses) if loss < self.height]
        pairs = []
        points = torch.stack(self.graph.minima)
        for i in low:
            for j in low:
                if i < j and component[i] != component[j] and {component[i], component[j]} & {a, b}:
                    tried = self.tried.get((i, j), 0)
                    distance = float((points[i] - points[j]).norm())
                    across = {component[i], component[j]} == {a, b}
                    pairs.append((distance * (1 + tried) * (1 if across else 1.5), i, j))
        if not pairs:
            return False
        pairs = sorted(pairs)[: self.settings.gaps]
        first, other = [], []
        for _, i, j in pairs:
            attempt = self.tried.get((i, j), 0)
            self.tried[i, j] = attempt + 1
            (other if attempt == 1 else first).append(self._path(points[i], points[j], i, j, attempt))
        starts, directions = [], []
        for loss, paths in ((self.loss, first), (self.second, other)):
            if not paths:
                continue
            there = loss.coordinates(self.loss.theta(torch.stack(paths)))
            rows = loss.rows
            low_paths, losses = relaxed(loss, there, _RELAX)
            if loss is not self.loss:
                self.loss.gradient_rows += loss.rows - rows
                low_paths = self.loss.coordinates(loss.theta(low_paths))
            for path, values in zip(low_paths, losses, strict=True):
                if bool(values.isfinite().all()):
                    for x, v, rise in self._peaks(path):
                        starts.append(x)
                        directions.append(v)
        if starts:
            self._follow(torch.stack(starts), torch.stack(directions), None, "gap")
        return True

    def _peaks(self, path: Tensor) -> list[tuple[Tensor, Tensor, float]]:
        """Points of ``path`` [n, d] that are higher than both neighbours, their tangents, and their rise.

        Sampled in quarters of each segment, and ever closer to both ends: the pass of a shallow end is close to it.
        """
        size = len(path)
        close = 0.25 ** torch.arange(5, 1, -1, dtype=torch.float64)
        at = torch.cat([close, torch.arange(1, 4 * (size - 1)) / 4, size - 1 - close.flip(0)]).to(path)
        segment = at.floor().long().clamp(max=size - 2)
        x = torch.lerp(path[segment], path[segment + 1], (at - segment)[:, None])
        x = torch.cat([path[:1], x, path[-1:]])
        f = self.loss.losses(x).tolist()
        noise = 1e-13 * max(abs(v) for v in f)
        found = []
        for k in range(1, len(f) - 1):
            if f[k] > f[k - 1] + noise and f[k] >= f[k + 1] + noise:
                rise = f[k] - max(min(f[:k]), min(f[k + 1 :]))
                found.append((x[k], x[k + 1] - x[k - 1], rise))
        span = max(f) - min(f)
        self.unit = max(span, 1e-10 * abs(self.top)) if not self.graph.edges else self.unit
        return [each for each in found if each[2] > 1e-9 * span]

    def _path(self, start: Tensor, end: Tensor, i: int, j: int, attempt: int) -> Tensor:
        weights = torch.linspace(0, 1, _POINTS, dtype=start.dtype, device=start.device)[:, None]
        straight = start + weights * (end - start)
        if attempt < 2:
            return straight
        draw = torch.randn(
            len(start), generator=generator(self.seed, "arch", i, j, attempt // 2), dtype=torch.float64
        ).to(start)
        along = (end - start) / (end - start).norm()
        draw = draw - (draw @ along) * along
        size = 0.25 * (end - start).norm() * (1 if attempt % 2 else -1)
        return straight + torch.sin(math.pi * weights) * size * draw / draw.norm()

    def _climbs(self) -> bool:
        """Climb from the minima below the height along their soft modes; whether there were any left."""
        component = self.graph.components(self.height)
        a, b = component[self.ends[0]], component[self.ends[1]]
        order = sorted(
            (self.climbed.get(i, 0), -self.graph.losses[i], i)
            for i in range(len(self.graph.minima))
            if component[i] in (a, b) and self.graph.losses[i] < self.height
        )
        width = self.loss.dimension
        modes = min(width, self.settings.modes)
        for done, _, i in order:
            if done < modes:
                break
        else:
            return False
        if i not in self.spectra:
            h = self.loss.hessians(self.graph.minima[i][None])[0]
            self.spectra[i] = (h, *torch.linalg.eigh(h))
        h, values, vectors = self.spectra[i]
        take = list(range(done, min(modes, done + 4)))
        self.climbed[i] = done + len(take)
        points, directions = [], []
        energy = max(self.unit, 1e-12 * abs(self.top))
        for m in take:
            size = min(0.05, math.sqrt(2 * 0.05 * energy / max(float(values[m]), 1e-300)))
            for sign in (1, -1):
                points.append(self.graph.minima[i] + sign * size * vectors[:, m])
                directions.append(vectors[:, m])
        self._follow(
            torch.stack(points), torch.stack(directions), h.expand(len(points), -1, -1), "climb"
        )
        return True

    # what the moves share

    def _follow(self, points: Tensor, directions: Tensor, hessians: Tensor | None, by: str) -> None:
        above = math.inf
        if math.isfinite(self.height):
            above = self.height + 0.5 * (self.height - min(self.graph.losses))
        found = follow(
            self.loss,
            points,
            directions,
            radius=0.03,
            longest=0.3,
            tolerance=1e-9 * self.unit,
            ceiling=max(above, float(self.loss.losses(points).max()) + self.unit) if by == "gap" else above,
            reach=2.0,
            hessians=hessians,
            steps=60,
        )
        self._keep(found, by)

    def _keep(self, found: Followed, by: str) -> None:
        fresh: list[int] = []
        for k in range(len(found.points)):
            one = bool(found.converged[k]) and int((found.values[k] < 0).sum()) == 1
            if not one or not float(found.losses[k]) < self.height or self.graph.knows(found.points[k]):
                continue
            if any(float((found.points[k] - found.points[j]).norm()) <= _SAME for j in fresh):
                continue
            fresh.append(k)
        if not fresh:
            return
        index = torch.tensor(fresh)
        x, values, vectors = found.points[index], found.values[index], found.vectors[index]
        size = (0.2 * self.unit / values[:, 0].abs()).sqrt().clamp(1e-4, 0.02)
        both = torch.cat([vectors[:, :, 0], -vectors[:, :, 0]])
        size = self._first_steps(torch.cat([x, x]), both, torch.cat([values[:, 0], values[:, 0]]), torch.cat([size, size]))
        starts = torch.cat([x, x]) + size[:, None] * both
        twice = torch.cat([values.abs(), values.abs()]).clamp_min(1e-12 * float(values.abs().max()))
        frames = torch.cat([vectors, vectors])

        def inverse(rows: Tensor, v: Tensor) -> Tensor:
            parts = (frames[rows].mT @ v[:, :, None])[:, :, 0] / twice[rows]
            return (frames[rows] @ parts[:, :, None])[:, :, 0]

        ends = descend_together(
            self.loss, starts, radius=size, longest=0.3, tolerance=1e-13 * self.unit, steps=150,
            inverse=inverse, refresh=max(8, self.loss.dimension // 2),
        )
        for n, k in enumerate(fresh):
            both = n, n + len(fresh)
            if not all(bool(ends.converged[m]) for m in both):
                continue
            nodes = [self.graph.minimum(ends.points[m], float(ends.losses[m])) for m in both]
            sides = tuple(
                torch.cat([found.points[k][None], ends.polylines[m], self.graph.minima[node][None]])
                for m, node in zip(both, nodes, strict=True)
            )
            self.graph.edges.append(
                Edge(found.points[k], float(found.losses[k]), (nodes[0], nodes[1]), (sides[0], sides[1]), found.values[k], found.gradients[k], by)
            )

    def _first_steps(self, x: Tensor, sides: Tensor, values: Tensor, size: Tensor) -> Tensor:
        """Lengths [k] of steps from the saddles ``x`` along ``sides``, along which the loss falls as its curvature says."""
        parts = torch.tensor([0.25, 0.5, 0.75, 1.0], dtype=x.dtype, device=x.device)
        top = self.loss.losses(x)
        size = size.clone()
        for _ in range(12):
            moves = (size[:, None] * parts)[:, :, None] * sides[:, None, :]
            fall = top[:, None] - self.loss.losses((x[:, None] + moves).flatten(0, 1)).reshape(len(x), -1)
            expected = 0.5 * values.abs()[:, None] * (size[:, None] * parts).square()
            good = ((fall >= 0.5 * expected) & (fall <= 2 * expected)).all(1)
            if bool(good.all()):
                break
            size = torch.where(good, size, 0.4 * size)
        return size

    def _descend(self, points: Tensor, radius: float) -> Descents:
        return descend_together(
            self.loss,
            points,
            radius=points.new_full((len(points),), radius),
            longest=0.3,
            tolerance=1e-13 * max(self.unit, 1e-12 * abs(self.top)),
            steps=150,
            inverse=None, refresh=max(8, self.loss.dimension // 2),
        )

    def polygon(self) -> Tensor | None:
        """The route [n, d] in parameters."""
        route = self.graph.route(*self.ends)
        if route is None:
            return None
        parts = [self.to_minima.polylines[0]]
        node = self.ends[0]
        for edge in route:
            near, far = edge.sides if edge.ends[0] == node else edge.sides[::-1]
            parts += [near.flip(0), far[1:]]
            node = edge.ends[1] if edge.ends[0] == node else edge.ends[0]
        parts.append(self.to_minima.polylines[1].flip(0))
        return self.loss.theta(torch.cat(parts))
