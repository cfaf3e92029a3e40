"""The lowest passes between classes of copies of minima, by climbs from one member of each class.

On the quotient one member stands for its class: every saddle beside a copy is a copy of a saddle beside the
member. So climbs from the members alone, along all eigenvectors of the Hessian in both directions and along
random directions, meet all saddles that such climbs can meet; each saddle of index 1 is descended from on
both sides, and minima that were not known join the list. Paths between two given minima need a choice of
copies first, and the nearest copy is often not the one with the lowest pass.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tests.benchmarks.network_barcodes import Minima, Network, random_copy
from topo_core import Barcode, Verdict, barcode, classify_point, generator, polish_minimum
from topo_core.critical_points.eigenvector_following import follow
from topo_core.critical_points.following import FollowLimits
from topo_core.critical_points.saddle_descents import descend_both_sides_together
from topo_core.critical_points.scaled_loss import ScaledLoss, metric_basis
from topo_core.paths.starts.route_settings import RouteSettings
from topo_core.paths.starts.saddle_routes import RouteSearch

_SAME = 1e-4  # distance of copies, as a part of their norm
_EQUAL = 1e-7  # difference of losses of copies, in units of the range of losses
_FIRST = (0.03, 0.3)  # first trust radii; 1 is as far as the loss rises by its range
_LONGEST, _REACH = 0.3, 20.0
_STEPS, _DESCENT = 60, 400


@dataclass(frozen=True)
class Pass:
    """A saddle of index 1.

    Attributes:
        point: [d].
        loss: there.
        classes: of the minima below it, two positions in the list; one twice where both are copies.
        ends: [2, d], the two minima themselves.
    """

    point: Tensor
    loss: float
    classes: tuple[int, int]
    ends: Tensor


@dataclass
class QuotientSearch:
    """Classes of minima and the passes between them, as far as they are known.

    Attributes:
        network: whose loss.
        points: one minimum [d] for each class.
        losses: theirs.
        passes: one for each class of copies of saddles.
        unbounded: descents from saddles that ended at no minimum.
        extent: the range of losses, the unit of lengths and tolerances.
    """

    network: Network
    points: list[Tensor]
    losses: list[float]
    extent: float
    passes: list[Pass] = field(default_factory=list)
    unbounded: int = 0

    @classmethod
    def of(cls, network: Network, found: Minima, extent: float) -> "QuotientSearch":
        """A search that begins with the minima ``found``."""
        return cls(network, list(found.points), list(found.losses), extent)

    def run(self, rounds: int, *, seed: int) -> list[tuple[int, int]]:
        """Climb from every class, ``rounds`` times with new random directions; from new classes as often.

        Returns:
            How many new saddles and new minima each round has met.
        """
        news = []
        for turn in range(rounds):
            before, k = (len(self.passes), len(self.points)), 0
            while k < len(self.points):
                self._climb(k, seed, turn)
                k += 1
            news.append((len(self.passes) - before[0], len(self.points) - before[1]))
        return news

    def join(self, i: int, j: int, *, budget: int, seed: int, copy: int = 0) -> int:
        """Search a route from class ``i`` to a copy of class ``j``; how many new passes that has met.

        Args:
            i, j: classes.
            budget: gradients and Hessian-vector products.
            seed: of the copy and the search.
            copy: 0 for the nearest copy, any other number for a random one.
        """
        start = self.points[i]
        end = self.network.symmetries.aligned(start, self.points[j])
        if copy:
            end = random_copy(self.network, end, seed, i, j, copy)
        before = len(self.passes)
        settings = RouteSettings(budget=budget, unjoined=budget)
        search = RouteSearch(self.network.objective, start, end, settings, seed)
        search.run()
        for edge in search.graph.edges:
            ends = search.loss.theta(torch.stack([search.graph.minima[end] for end in edge.ends]))
            self._add(search.loss.theta(edge.point), edge.loss, ends)
        return len(self.passes) - before

    def join_all(self, *, budget: int, seed: int) -> None:
        """Join each class with the lowest one and its nearest lower one, twice; new classes as well.

        New classes are climbed from first.
        """
        done = set[int]()
        known = len(self.points)
        while left := [k for k in range(len(self.points)) if k not in done]:
            for k in left:
                done.add(k)
                if k >= known:
                    self._climb(k, seed, 0)
                lower = [i for i in range(len(self.points)) if self.losses[i] < self.losses[k]]
                if not lower:
                    continue
                lowest = min(lower, key=lambda i: self.losses[i])
                nearest = min(lower, key=lambda i: self._distance(k, i))
                for other in sorted({lowest, nearest}):
                    for copy in (0, 1):
                        self.join(k, other, budget=budget, seed=seed, copy=copy)

    def _distance(self, k: int, i: int) -> float:
        return self.network.symmetries.distance(self.points[k], self.points[i])

    def barcode(self) -> Barcode:
        """Elder rule, one bar for each class."""
        heights = dict[tuple[int, int], float]()
        for one in self.passes:
            i, j = sorted(one.classes)
            if i != j:
                height = max(one.loss, self.losses[i], self.losses[j])
                heights[i, j] = min(heights.get((i, j), math.inf), height)
        return barcode(dict(enumerate(self.losses)), heights)

    def pass_of(self, pair: tuple[int, int]) -> Pass:
        """The lowest pass between two classes."""
        between = (one for one in self.passes if sorted(one.classes) == sorted(pair))
        return min(between, key=lambda one: one.loss)

    def is_verified(self, pair: tuple[int, int]) -> bool:
        """Whether the lowest pass between two classes is proved to be a saddle of index exactly 1."""
        point = classify_point(self.network.objective, self.pass_of(pair).point)
        return point.verdict is Verdict.SADDLE and point.index == 1 and point.index_is_exact

    def _climb(self, k: int, seed: int, turn: int) -> None:
        """Climbs from class ``k``: along the eigenvectors in the first turn, then in random directions."""
        minimum, count = self.points[k], self.network.objective.dimension
        plain = ScaledLoss(self.network.objective, minimum)
        basis = metric_basis(plain.hessians(torch.zeros_like(minimum)[None]))
        loss = ScaledLoss(self.network.objective, minimum, math.sqrt(2 * self.extent) * basis)
        if turn:
            draw = generator(seed, "climbs", k, turn)
            sides = torch.randn(count, count, generator=draw, dtype=torch.float64)
            sides = sides / sides.norm(dim=1, keepdim=True)
        else:  # in these coordinates the Hessian is the identity: its eigenvectors are the axes
            sides = torch.linalg.solve(loss.basis, _eigenvectors(plain)).T
            sides = sides / sides.norm(dim=1, keepdim=True)
        both = torch.cat([sides, -sides])
        radius = both.new_full((len(both),), _FIRST[turn % len(_FIRST)])
        result = follow(
            loss,
            radius[:, None] * both,
            both,
            FollowLimits(
                _LONGEST,
                tolerance=1e-12 * self.extent,
                steps=_STEPS,
                ceiling=max(self.losses) + self.extent,
                reach=_REACH,
            ),
            radius=radius,
        )
        proved = result.converged & ((result.values < 0).sum(1) == 1)
        fresh = list[int]()
        for row in torch.nonzero(proved).flatten().tolist():
            point, height = loss.theta(result.points[row]), float(result.losses[row])
            known = ((one.loss, one.point) for one in self.passes)
            if not any(self._are_copies(height, point, *other) for other in known):
                fresh.append(row)
        if not fresh:
            return
        rows = torch.tensor(fresh)
        down = descend_both_sides_together(
            loss,
            result.points[rows],
            result.values[rows],
            result.vectors[rows],
            first=0.05,
            longest=_LONGEST,
            tolerance=1e-13 * self.extent,
            steps=_DESCENT,
        )
        for n, row in enumerate(fresh):
            ends = loss.theta(torch.stack([down.points[n], down.points[n + len(fresh)]]))
            self._add(loss.theta(result.points[row]), float(result.losses[row]), ends)

    def _add(self, point: Tensor, loss: float, ends: Tensor) -> None:
        """Add a saddle, unless a copy of it is known or a descent from it has ended at no minimum."""
        if any(self._are_copies(loss, point, one.loss, one.point) for one in self.passes):
            return
        first, second = (self._class_of(end) for end in ends)
        if first is None or second is None:
            self.unbounded += 1
        else:
            self.passes.append(Pass(point, loss, (first, second), ends))

    def _class_of(self, end: Tensor) -> int | None:
        """The class of the minimum that the descent to ``end`` [d] has reached; None where it is none."""
        value = float(self.network.objective.losses(end[None]))
        for k, (loss, point) in enumerate(zip(self.losses, self.points, strict=True)):
            if self._are_copies(value, end, loss, point):
                return k
        polished = polish_minimum(self.network.objective, end)
        if polished.verdict is not Verdict.MINIMUM:
            return None
        for k, (loss, point) in enumerate(zip(self.losses, self.points, strict=True)):
            if self._are_copies(polished.loss, polished.point, loss, point):
                return k
        self.points.append(polished.point)
        self.losses.append(polished.loss)
        return len(self.points) - 1

    def _are_copies(self, value: float, point: Tensor, other: float, member: Tensor) -> bool:
        near = abs(value - other) <= _EQUAL * self.extent
        return near and self.network.symmetries.distance(member, point) <= _SAME


def _eigenvectors(plain: ScaledLoss) -> Tensor:
    """[d, d], of the Hessian at the origin of ``plain``, in columns."""
    zero = torch.zeros_like(plain.origin)[None]
    return torch.linalg.eigh(plain.hessians(zero)[0]).eigenvectors
