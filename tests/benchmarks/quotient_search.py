"""The lowest passes between classes of copies of minima, by climbs from one member of each class.

On the quotient one member stands for its class: every saddle beside a copy is a copy of a saddle beside the
member. So climbs from the members alone, along all eigenvectors of the Hessian in both directions and along
random directions, meet all saddles that such climbs can meet. Each saddle of index 1 is descended from on
both sides, and minima that were not known join the list. Paths between two given minima need a choice of
copies first, and the nearest copy is often not the one with the lowest pass.

Without a ridge a descent may end at no minimum, where the loss keeps falling along a valley. A valley takes
part in the elder rule with the lowest loss that the descent has reached: a bar ends where its minimum is
connected to lower points, whether they belong to a minimum or not.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

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
            -1 - k stands for valley k.
    """

    point: Tensor
    loss: float
    classes: tuple[int, int]


@dataclass
class QuotientSearch:
    """Classes of minima and the passes between them, as far as they are known.

    Attributes:
        network: whose loss.
        points: one minimum [d] for each class.
        losses: theirs.
        passes: one for each class of copies of saddles.
        valleys: loss reached by each descent from a saddle that ended at no minimum.
        climbed: classes that were climbed from along all eigenvectors.
        joined: classes that were joined with lower ones.
        extent: the range of losses, the unit of lengths and tolerances.
    """

    network: Network
    points: list[Tensor]
    losses: list[float]
    extent: float
    passes: list[Pass] = field(default_factory=list)
    valleys: list[float] = field(default_factory=list)
    climbed: set[int] = field(default_factory=set)
    joined: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, network: Network, minima: Minima, extent: float) -> "QuotientSearch":
        """A search that begins with ``minima``."""
        return cls(network, list(minima.points), list(minima.losses), extent)

    def state(self) -> dict[str, Any]:
        """All that is known, for ``restore``."""
        passes = [(one.point, one.loss, one.classes) for one in self.passes]
        return {
            "points": self.points,
            "losses": self.losses,
            "passes": passes,
            "valleys": self.valleys,
            "climbed": self.climbed,
            "joined": self.joined,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what ``state`` has returned."""
        self.points, self.losses = state["points"], state["losses"]
        self.passes = [Pass(*one) for one in state["passes"]]
        self.valleys = state["valleys"]
        self.climbed, self.joined = state["climbed"], state["joined"]

    def climb_all(self, *, seed: int, save: Callable[[], None] = lambda: None) -> None:
        """Climb along all eigenvectors from every class that was not climbed from, new ones included.

        Args:
            seed: of the search.
            save: called after each class.
        """
        while left := [k for k in range(len(self.points)) if k not in self.climbed]:
            self._climb(left[0], seed, 0)
            self.climbed.add(left[0])
            save()

    def climb_again(self, turn: int, *, seed: int) -> tuple[int, int]:
        """Climb from every class in random directions, those of ``turn`` ≥ 1.

        Returns:
            Numbers of new saddles and new minima.
        """
        before = len(self.passes), len(self.points)
        for k in range(before[1]):
            self._climb(k, seed, turn)
        return len(self.passes) - before[0], len(self.points) - before[1]

    def join(self, i: int, j: int, *, budget: int, seed: int, copy: int = 0) -> None:
        """Search for a route from class ``i`` to a copy of class ``j``, and add the passes on it.

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
        settings = RouteSettings(budget=budget, unjoined=budget)
        search = RouteSearch(self.network.objective, start, end, settings, seed)
        search.run()
        for edge in search.graph.edges:
            ends = search.loss.theta(torch.stack([search.graph.minima[end] for end in edge.ends]))
            self._add(search.loss.theta(edge.point), edge.loss, ends)

    def join_all(self, *, budget: int, seed: int, save: Callable[[], None] = lambda: None) -> None:
        """Join each class with the lowest one and its nearest lower one, twice; new classes as well.

        New classes are climbed from first.

        Args:
            budget: gradients and Hessian-vector products of a search.
            seed: of the searches.
            save: called after each class.
        """
        while left := [k for k in range(len(self.points)) if k not in self.joined]:
            k = left[0]
            if k not in self.climbed:
                self._climb(k, seed, 0)
                self.climbed.add(k)
            lower = [i for i in range(len(self.points)) if self.losses[i] < self.losses[k]]
            if lower:
                lowest = min(lower, key=lambda i: self.losses[i])
                nearest = min(lower, key=lambda i: self.distance(k, i))
                for other in sorted({lowest, nearest}):
                    for copy in (0, 1):
                        self.join(k, other, budget=budget, seed=seed, copy=copy)
            self.joined.add(k)
            save()

    def distance(self, k: int, i: int) -> float:
        """Between classes ``k`` and ``i``: from a member to the nearest copy, as a part of their norm."""
        return self.network.symmetries.distance(self.points[k], self.points[i])

    def barcode(self, further: Mapping[tuple[int, int], float] | None = None) -> Barcode:
        """Elder rule, one bar for each class; it ends where a lower minimum or a lower valley is reached.

        Args:
            further: heights of paths between classes, i < j, beside the passes.
        """
        losses = dict(enumerate(self.losses))
        losses |= {-1 - k: loss for k, loss in enumerate(self.valleys)}
        heights = dict(further or {})
        for one in self.passes:
            i, j = sorted(one.classes)
            if i != j:
                height = max(one.loss, losses[i], losses[j])
                heights[i, j] = min(heights.get((i, j), math.inf), height)
        bars = barcode(losses, heights)
        return Barcode(tuple(bar for bar in bars.bars if bar.minimum >= 0), bars.method)

    def pass_of(self, pair: tuple[int, int]) -> Pass:
        """The lowest pass between two classes, or a class and a valley."""
        between = (one for one in self.passes if sorted(one.classes) == sorted(pair))
        return min(between, key=lambda one: one.loss)

    def is_verified(self, pair: tuple[int, int]) -> bool:
        """Whether the lowest pass between two classes is proved to be a saddle of index exactly 1."""
        point = classify_point(self.network.objective, self.pass_of(pair).point)
        return point.verdict is Verdict.SADDLE and point.index == 1 and point.index_is_exact

    def _climb(self, k: int, seed: int, turn: int) -> None:
        """Climbs from class ``k``: along the eigenvectors in turn 0, in random directions in others."""
        minimum, count = self.points[k], self.network.dimension
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
        saddles = result.converged & ((result.values < 0).sum(1) == 1)
        fresh = list[int]()
        for row in torch.nonzero(saddles).flatten().tolist():
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
        """Add a saddle, unless a copy of it is known or neither descent from it has ended at a minimum."""
        if any(self._are_copies(loss, point, one.loss, one.point) for one in self.passes):
            return
        first, second = (self._class_of(end) for end in ends)
        if isinstance(first, float) and isinstance(second, float):
            return
        below = tuple(
            self._valley(end) if isinstance(end, float) else end for end in (first, second)
        )
        self.passes.append(Pass(point, loss, (below[0], below[1])))

    def _valley(self, loss: float) -> int:
        self.valleys.append(loss)
        return -len(self.valleys)

    def _class_of(self, end: Tensor) -> int | float:
        """The class of the minimum that the descent to ``end`` [d] has reached; the loss where it is none."""
        value = float(self.network.objective.losses(end[None]))
        for k, (loss, point) in enumerate(zip(self.losses, self.points, strict=True)):
            if self._are_copies(value, end, loss, point):
                return k
        minimum = polish_minimum(self.network.objective, end)
        if minimum.verdict is not Verdict.MINIMUM:
            return min(value, minimum.loss)
        for k, (loss, point) in enumerate(zip(self.losses, self.points, strict=True)):
            if self._are_copies(minimum.loss, minimum.point, loss, point):
                return k
        self.points.append(minimum.point)
        self.losses.append(minimum.loss)
        return len(self.points) - 1

    def _are_copies(self, value: float, point: Tensor, other: float, member: Tensor) -> bool:
        near = abs(value - other) <= _EQUAL * self.extent
        return near and self.network.symmetries.distance(member, point) <= _SAME


def _eigenvectors(plain: ScaledLoss) -> Tensor:
    """[d, d], of the Hessian at the origin of ``plain``, in columns."""
    zero = torch.zeros_like(plain.origin)[None]
    return torch.linalg.eigh(plain.hessians(zero)[0]).eigenvectors
