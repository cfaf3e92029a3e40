"""The search for all passes: saddles of index 1 between minima, several between two minima where there are.

A complex on the minima alone cannot see a loop made of two passes between the same two minima, nor a ring
with fewer than three minima. Where paths are the lowest possible, it sees no loop that closes at a pass which
merges nothing either, for the lowest path avoids that pass.

So every pair of minima is joined along several routes, and the peak of each is followed to its saddle.
Walkers from random starts (``random_walkers``) then descend to minima and climb to saddles, round after
round, until two rounds have found nothing new. ``passes`` turns each saddle into an edge between two minima.

Gradients must be exact, as for ``minimax_search``, whose starts and batched relaxations are used.
"""

import itertools
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from topo_core.critical_points.minima import polish_minimum
from topo_core.critical_points.saddles import SaddleSettings, refine_saddle
from topo_core.morse.passes import POINTS, IndexOneSaddle, Pass, passes_over, relaxed_in_parts
from topo_core.morse.random_walkers import (
    FAR,
    QUIET_ROUNDS,
    SAME_DISTANCE,
    STRIDE,
    climb_walkers,
    start_box,
    starts_beside,
)
from topo_core.objectives.protocol import Objective, Step
from topo_core.paths.polyline import line
from topo_core.paths.starts.minimax_search import arches, descended
from topo_core.random_streams import generator

_STEP = Step(0, 0, 0)  # gradients are exact: it names no batch
_RIPPLE = 1e-4  # of the range of losses on a path: a lower peak is not followed
_ROUNDS = 12  # of walkers, at most
_HALVINGS = 6  # of the stride, until the loss falls on both sides of a shallow pass
_REST = 1e-3  # gradient at which a walker has converged, relative to the median at their starts
_SEARCH = SaddleSettings(steps=100)


@dataclass(frozen=True)
class Passes:
    """The result of a search for passes.

    Attributes:
        minima: [n, d]; the given ones come first, without repeats.
        given: number of given minima.
        passes: lowest first.
        quiet: number of rounds of walkers at the end that found nothing new; with fewer than two the search
            stopped while it was still finding minima or passes.
        size: the length scale of the search.
        search: the search itself, which ``more_passes`` continues.
    """

    minima: Tensor
    given: int
    passes: tuple[Pass, ...]
    quiet: int
    size: float
    search: "_Search" = field(repr=False, compare=False)


def find_passes(
    objective: Objective,
    minima: Tensor,
    *,
    seed: int,
    walkers: int = 128,
    reach: float | None = None,
) -> Passes:
    """The passes between ``minima`` [n, d], and the minima that were not known.

    Args:
        objective: the loss, with exact gradients.
        minima: two or more, or one if ``reach`` is given. Points that are not stationary are replaced by the
            minima below them; repeats are left out.
        seed: of all random numbers.
        walkers: number of walkers in a round; 0 to search along paths between the minima only.
        reach: largest distance from the mean of ``minima``, along each axis, at which walkers start; None for
            twice the largest distance between two of them.

    Raises:
        ValueError: for an objective with minibatches; a single minimum without ``reach``; a
            ``reach`` that is not positive.
    """
    if objective.batches != 1:
        raise ValueError(
            f"subdivide needs exact gradients, and the objective has {objective.batches} "
            "minibatches; leave it out, or give an objective over the whole training set."
        )
    if reach is None and len(minima) == 1:
        raise ValueError(
            "one minimum does not tell how far to search for others; give reach, or two minima."
        )
    if reach is not None and not (math.isfinite(reach) and reach > 0):
        raise ValueError(f"reach is {reach}; it must be a finite number above 0.")
    distinct = distinct_minima(objective, minima)
    if reach is None and len(distinct) == 1:
        raise ValueError(
            f"the {len(minima)} given minima are one point, which does not tell how far to search for "
            "others; give reach, or two different minima."
        )
    search = _Search(objective, distinct, seed, reach)
    search.explore(list(itertools.combinations(distinct, 2)))
    quiet = rounds = 0
    while walkers and quiet < QUIET_ROUNDS and rounds < _ROUNDS:
        rounds += 1
        quiet = 0 if search.scatter(walkers, rounds) else quiet + 1
    return search.result(quiet)


def distinct_minima(objective: Objective, minima: Tensor) -> Tensor:
    """The minima below ``minima`` [n, d], without repeats, in the same order: [m, d].

    A minimum that is given twice would count as two points, and no pass joins these.
    """
    points = torch.stack([polish_minimum(objective, point).point for point in minima])
    near = SAME_DISTANCE * float(torch.cdist(points, points).max())
    kept: list[Tensor] = []
    for point in points:
        if all(float((point - other).norm()) > near for other in kept):
            kept.append(point)
    return torch.stack(kept)


def more_passes(found: Passes, starts: Tensor, along: Tensor) -> Passes | None:
    """``found``, extended by the passes that climbs from ``starts`` [k, d] reach; None if no pass is new.

    Args:
        found: the known passes.
        starts: points near which a pass is likely.
        along: [k, d], the first directions of the climbs, of any length.
    """
    return found.search.result(found.quiet) if found.search.follow(starts, along) else None


class _Search:
    """All critical points found so far, and the methods that find more."""

    def __init__(
        self, objective: Objective, minima: Tensor, seed: int, reach: float | None
    ) -> None:
        self.objective, self.seed = objective, seed
        self.given = minima
        self.minima = list(minima)
        self.size = reach / FAR if reach else float(torch.cdist(minima, minima).max())
        self.saddles: list[IndexOneSaddle] = []
        self._tried: list[Tensor] = []  # peaks that were followed
        self._visited = 0, 0  # minima and saddles that walkers have started beside
        self._usual = math.inf  # gradient norm at which a walker has converged

    def explore(self, pairs: list[tuple[Tensor, Tensor]]) -> None:
        """Relax a line and arches between each of ``pairs``; follow their peaks to saddles."""
        starts: list[Tensor] = []
        for first, second in pairs:
            straight = line(first, second, POINTS)
            starts += [straight, *arches(self.objective, straight, self.seed)]
        if not starts:
            return
        for path in relaxed_in_parts(self.objective, torch.stack(starts)):
            if bool(path.isfinite().all()):
                self._follow_peaks(path)

    def scatter(self, walkers: int, number: int) -> bool:
        """One round: each walker descends, and climbs. Returns whether a point is new."""
        draw = generator(self.seed, "scatter", number)
        known = torch.stack([*self.minima, *(saddle.point for saddle in self.saddles)])
        middle = self.given.mean(0)
        frame = start_box(middle, known, self.size)
        shape = walkers, len(frame)
        points = 2 * torch.rand(shape, generator=draw, dtype=torch.float64) - 1
        along = torch.randn(shape, generator=draw, dtype=torch.float64).to(frame) @ frame
        starts = torch.cat([middle + points.to(frame) @ frame, self._beside(draw)])
        others = torch.randn(len(starts) - walkers, starts.shape[1], generator=draw).to(along)
        along = torch.cat([along, others])
        losses, gradients = self.objective.gradients(starts, _STEP)
        usual = _converged_norm(gradients)
        self._usual = min(self._usual, usual)
        usable = losses.isfinite()
        starts, along = starts[usable], along[usable]
        before = len(self.minima) + len(self.saddles)
        stride = STRIDE * self.size
        floor = descended(self.objective, starts, stride)
        for row in self._converged(floor, _REST * usual):
            self._minimum_at(floor[row])
        self._climb(starts, along, usual)
        return len(self.minima) + len(self.saddles) > before

    def follow(self, starts: Tensor, along: Tensor) -> bool:
        """Climb from ``starts`` [k, d] along ``along`` [k, d]. Returns whether a pass is new."""
        before = len(self.saddles)
        _, gradients = self.objective.gradients(starts, _STEP)
        self._climb(starts, along, min(self._usual, _converged_norm(gradients)))
        return len(self.saddles) > before

    def result(self, quiet: int) -> Passes:
        """The minima and passes found so far, after ``quiet`` rounds without a new point."""
        passes = passes_over(self.objective, self.saddles, self._minimum_at)
        passes.sort(key=lambda one: one.height)
        minima = torch.stack(self.minima)
        return Passes(minima, len(self.given), tuple(passes), quiet, self.size, self)

    def _beside(self, draw: torch.Generator) -> Tensor:
        """[k, d], starts close to the minima and saddles that are new since the last round.

        A shallow pass beside a shallow minimum is reached from there and from few other points.
        """
        minima, saddles = self._visited
        new = [*self.minima[minima:], *(saddle.point for saddle in self.saddles[saddles:])]
        self._visited = len(self.minima), len(self.saddles)
        if not new:
            return self.given[:0]
        return starts_beside(torch.stack(new), STRIDE * self.size, draw)

    def _converged(self, points: Tensor, usual: float) -> list[int]:
        """Rows of ``points`` [k, d] with a finite loss and a gradient norm of at most ``usual``."""
        losses, gradients = self.objective.gradients(points, _STEP)
        still = torch.linalg.vector_norm(gradients, dim=1) <= usual
        rows: list[int] = torch.nonzero(losses.isfinite() & still).flatten().tolist()
        return rows

    def _climb(self, starts: Tensor, along: Tensor, usual: float) -> None:
        """Climb from ``starts`` [k, d], and keep the passes among the points that are reached."""
        stride = STRIDE * self.size
        tops, directions = climb_walkers(self.objective, starts, along, stride)
        for row in self._converged(tops, usual):
            if self._is_known(tops[row]):
                continue
            scale = stride
            for _ in range(_HALVINGS):
                if self._falls(tops[row], scale * directions[row]):
                    self._keep_pass(tops[row], directions[row], scale)
                    break
                scale *= 0.5

    def _falls(self, top: Tensor, move: Tensor) -> bool:
        """Whether the loss is lower on both sides of ``top`` [d], at a distance ``move`` [d]."""
        losses = self.objective.losses(torch.stack([top, top + move, top - move]))
        return bool(losses[0] > losses[1:].max())

    def _follow_peaks(self, path: Tensor) -> None:
        """Follow each peak of a path [k, d] that rises above its surroundings to a saddle."""
        losses = self.objective.losses(path).tolist()
        ripple = _RIPPLE * (max(losses) - min(losses))
        for k in range(1, len(path) - 1):
            if losses[k] > losses[k - 1] and losses[k] >= losses[k + 1]:
                rise = losses[k] - max(min(losses[:k]), min(losses[k + 1 :]))
                if rise > ripple:
                    self._follow_peak(path, k)

    def _follow_peak(self, path: Tensor, top: int) -> None:
        tangent = path[top + 1] - path[top - 1]
        spacing = 0.5 * float(tangent.norm())
        if not spacing > 0 or _near(path[top], self._tried, 0.5 * spacing):
            return
        self._tried.append(path[top])
        self._keep_pass(path[top], tangent, spacing)

    def _keep_pass(self, peak: Tensor, tangent: Tensor, scale: float) -> None:
        """Add the saddle that the search from ``peak`` [d] reaches, if it is a pass and new."""
        chord = scale * tangent / tangent.norm()
        saddle = refine_saddle(self.objective, peak, chord, _SEARCH, seed=self.seed)
        direction = saddle.critical.direction
        if saddle.is_pass and direction is not None and not self._is_known(saddle.point):
            self.saddles.append(IndexOneSaddle(saddle.point, direction, scale))

    def _is_known(self, point: Tensor) -> bool:
        return _near(point, [saddle.point for saddle in self.saddles], SAME_DISTANCE * self.size)

    def _minimum_at(self, point: Tensor) -> tuple[int, Tensor]:
        """Index and point of the minimum at ``point`` [d], which is added if it is new."""
        for index, known in enumerate(self.minima):
            if float((known - point).norm()) <= SAME_DISTANCE * self.size:
                return index, known
        self.minima.append(point)
        return len(self.minima) - 1, point


def _near(point: Tensor, known: list[Tensor], distance: float) -> bool:
    return any(float((point - other).norm()) <= distance for other in known)


def _converged_norm(gradients: Tensor) -> float:
    """Gradient norm at which walkers have converged, from the ``gradients`` [k, d] at their starts."""
    return _REST * float(torch.linalg.vector_norm(gradients, dim=1).nanmedian())
