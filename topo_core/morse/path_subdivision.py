"""Every pass as an edge of its own: what a complex on the minima alone cannot see.

Triangles of paths between minima see neither a loop made of two passes between the same two
minima nor a ring with fewer than three of them; and where paths are the lowest possible, they
see no loop that closes at a pass which merges nothing, for the lowest path avoids it.

Here every pair of minima is joined along several routes, and the peak of each is followed to its
saddle. Walkers from drawn starts (``random_walkers``) then descend to minima and climb to passes, round
after round, until two rounds have found nothing new. From each saddle a descent on each side finds the
two minima that it joins. Those saddles are the edges of a graph with as many edges between two minima
as there are passes.

Exact gradients are needed, as for ``minimax_search``, whose starts and batched descents are used.
"""

import itertools
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from topo_core.critical_points.minima import polish_minimum
from topo_core.critical_points.saddle_search import Saddle, SaddleSettings, find_saddle
from topo_core.morse.random_walkers import FAR, beside, box, climbed
from topo_core.objectives.protocol import Objective, Step
from topo_core.paths.polyline import line, resample
from topo_core.paths.profiles import loss_profile
from topo_core.paths.starts.minimax_search import arches, lowered, settled
from topo_core.random_streams import generator

_STEP = Step(0, 0, 0)  # gradients are exact: it names no batch
_POINTS = 19
_ROWS = 1 << 22  # numbers in one batch of paths
_SAME = 1e-3  # points closer than this fraction of the size of the set of minima are one
_RIPPLE = 1e-4  # of the range of losses on a path: shallower dips are none
_DESCENT = 0.1  # a step of a recorded descent, in spacings
_STEPS = 800  # of a recorded descent
_SETTLED = 1e-6  # of its steepest slope: a descent that has less has arrived
_RESETTLES = 10
_ROUNDS = 12  # of walkers, at most
_QUIET = 2  # rounds that find nothing new, to stop
_STRIDE = 0.05  # spacing of walkers, in sizes of the set of given minima
_HALVINGS = 6  # of the spacing, until a shallow pass falls on both sides
_REST = 1e-3  # of the gradients at their starts: a walker with less has converged
_SEARCH = SaddleSettings(climb=60, polish=12, lanczos=8, tolerance=1e-4)


@dataclass(frozen=True)
class Pass:
    """A saddle between two minima, or between one and itself.

    Attributes:
        ends: the minima below its two sides, in increasing order.
        path: [k, d] from the first end over the saddle to the second.
        top: the row of the saddle in ``path``.
        height: the highest loss on the path, which is at the saddle up to ``bracket``.
        bracket: of the dense maximum.
    """

    ends: tuple[int, int]
    path: Tensor
    top: int
    height: float
    bracket: float

    @property
    def saddle(self) -> Tensor:
        """[d]."""
        return self.path[self.top]


@dataclass(frozen=True)
class Passes:
    """The result of a search for passes.

    Attributes:
        minima: [n, d]; those that were given come first, without repeats.
        given: how many these are.
        passes: lowest first.
        quiet: rounds of walkers at the end that found nothing new; fewer than two mean that the
            search stopped while it was still finding minima or passes.
        size: the length scale of the search.
        search: that found them, for ``more_passes``.
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
        minima: two or more; one where ``reach`` is given. Those that are not stationary stand for the
            minima below them; repeats are left out.
        seed: of all draws.
        walkers: of a round; 0 leaves it at the passes that routes between the minima lead over.
        reach: how far from the mean of ``minima`` walkers may start, along each axis; None for
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
            "one minimum says nothing of how far to look for others; give reach, or two minima."
        )
    if reach is not None and not (math.isfinite(reach) and reach > 0):
        raise ValueError(f"reach is {reach}; it must be a finite number above 0.")
    distinct = distinct_minima(objective, minima)
    if reach is None and len(distinct) == 1:
        raise ValueError(
            f"the {len(minima)} minima given are one point, which says nothing of how far to look for "
            "others; give reach, or two different minima."
        )
    search = _Search(objective, distinct, seed, reach)
    search.explore(list(itertools.combinations(distinct, 2)))
    quiet = rounds = 0
    while walkers and quiet < _QUIET and rounds < _ROUNDS:
        rounds += 1
        quiet = 0 if search.scatter(walkers, rounds) else quiet + 1
    return search.found(quiet)


def distinct_minima(objective: Objective, minima: Tensor) -> Tensor:
    """The minima below ``minima`` [n, d], without repeats, in their order: [m, d].

    A minimum given twice would be two points that no pass joins.
    """
    points = torch.stack([polish_minimum(objective, point).point for point in minima])
    near = _SAME * float(torch.cdist(points, points).max())
    kept: list[Tensor] = []
    for point in points:
        if all(float((point - other).norm()) > near for other in kept):
            kept.append(point)
    return torch.stack(kept)


def more_passes(found: Passes, starts: Tensor, along: Tensor) -> Passes | None:
    """``found`` with the passes that climbs from ``starts`` [k, d] add; None where none is new.

    Args:
        found: what is known.
        starts: points beside which a pass is likely to be.
        along: [k, d], the first directions of the climbs, of any length.
    """
    return found.search.found(found.quiet) if found.search.follow(starts, along) else None


class _Search:
    def __init__(
        self, objective: Objective, minima: Tensor, seed: int, reach: float | None
    ) -> None:
        self.objective, self.seed = objective, seed
        self.given = minima
        self.minima = list(minima)
        self.size = reach / FAR if reach else float(torch.cdist(minima, minima).max())
        self.saddles: list[Saddle] = []
        self.spacings: list[float] = []
        self._tried: list[Tensor] = []
        self._visited = 0, 0  # minima and saddles that walkers have left from
        self._usual = math.inf  # the gradient of a walker that has converged

    def explore(self, pairs: list[tuple[Tensor, Tensor]]) -> None:
        """Lower a line and arches between each of ``pairs``; follow their peaks to saddles."""
        starts: list[Tensor] = []
        for first, second in pairs:
            straight = line(first, second, _POINTS)
            starts += [straight, *arches(self.objective, straight, self.seed)]
        self._lower(starts)

    def scatter(self, walkers: int, number: int) -> bool:
        """One round: each walker descends, and climbs. Whether anything new was found."""
        draw = generator(self.seed, "scatter", number)
        known = torch.stack([*self.minima, *(found.point for found in self.saddles)])
        middle = self.given.mean(0)
        frame = box(middle, known, self.size)
        shape = walkers, len(frame)
        points = 2 * torch.rand(shape, generator=draw, dtype=torch.float64) - 1
        along = torch.randn(shape, generator=draw, dtype=torch.float64).to(frame) @ frame
        starts = torch.cat([middle + points.to(frame) @ frame, self._beside(draw)])
        others = torch.randn(len(starts) - walkers, starts.shape[1], generator=draw).to(along)
        along = torch.cat([along, others])
        losses, gradients = self.objective.gradients(starts, _STEP)
        usual = _REST * float(torch.linalg.vector_norm(gradients, dim=1).nanmedian())
        self._usual = min(self._usual, usual)
        usable = losses.isfinite()
        starts, along = starts[usable], along[usable]
        before = len(self.minima) + len(self.saddles)
        stride = _STRIDE * self.size
        floor = settled(self.objective, starts, stride)
        for row in self._converged(floor, _REST * usual):
            self._index(floor[row])
        tops, directions = climbed(self.objective, starts, along, stride)
        self._climb_on(tops, directions, usual, stride)
        return len(self.minima) + len(self.saddles) > before

    def follow(self, starts: Tensor, along: Tensor) -> bool:
        """Climb from ``starts`` [k, d] along ``along``. Whether a new pass was found."""
        before, stride = len(self.saddles), _STRIDE * self.size
        _, gradients = self.objective.gradients(starts, _STEP)
        usual = _REST * float(torch.linalg.vector_norm(gradients, dim=1).nanmedian())
        tops, directions = climbed(self.objective, starts, along, stride)
        self._climb_on(tops, directions, min(self._usual, usual), stride)
        return len(self.saddles) > before

    def found(self, quiet: int) -> Passes:
        """All that is known by now, after ``quiet`` rounds without news."""
        passes = sorted(self.passes(), key=lambda one: one.height)
        minima = torch.stack(self.minima)
        return Passes(minima, len(self.given), tuple(passes), quiet, self.size, self)

    def _beside(self, draw: torch.Generator) -> Tensor:
        """[k, d], starts close to the minima and passes that were found since the last round.

        A shallow pass beside a shallow minimum is seen from there and from few other points.
        """
        minima, saddles = self._visited
        new = [*self.minima[minima:], *(found.point for found in self.saddles[saddles:])]
        self._visited = len(self.minima), len(self.saddles)
        if not new:
            return self.given[:0]
        return beside(torch.stack(new), _STRIDE * self.size, draw)

    def _converged(self, points: Tensor, usual: float) -> list[int]:
        """Rows of ``points`` with a loss, and next to no gradient."""
        losses, gradients = self.objective.gradients(points, _STEP)
        still = torch.linalg.vector_norm(gradients, dim=1) <= usual
        found: list[int] = torch.nonzero(losses.isfinite() & still).flatten().tolist()
        return found

    def _climb_on(self, tops: Tensor, directions: Tensor, usual: float, stride: float) -> None:
        """Check the points that walkers have climbed to."""
        for row in self._converged(tops, usual):
            known = [saddle.point for saddle in self.saddles]
            if self._near(tops[row], known, _SAME * self.size):
                continue
            spacing = stride
            for _ in range(_HALVINGS):
                fall = self._fall(tops[row], spacing * directions[row])
                if fall > 0:
                    self._keep_pass(tops[row], directions[row], spacing, fall)
                    break
                spacing *= 0.5

    def _fall(self, top: Tensor, move: Tensor) -> float:
        """How much lower it is on both sides of ``top`` [d], at a distance ``move`` [d]."""
        losses = self.objective.losses(torch.stack([top, top + move, top - move]))
        return float(losses[0] - losses[1:].max())

    def _lower(self, starts: list[Tensor]) -> None:
        if not starts:
            return
        for path in lowered_in_parts(self.objective, torch.stack(starts)):
            if bool(path.isfinite().all()):
                self._follow_peaks(path)

    def _follow_peaks(self, path: Tensor) -> None:
        losses = self.objective.losses(path).tolist()
        ripple = _RIPPLE * (max(losses) - min(losses))
        for k in range(1, len(path) - 1):
            if losses[k] > losses[k - 1] and losses[k] >= losses[k + 1]:
                rise = losses[k] - max(min(losses[:k]), min(losses[k + 1 :]))
                if rise > ripple:
                    self._follow(path, k, rise)

    def _follow(self, path: Tensor, top: int, barrier: float) -> None:
        tangent = path[top + 1] - path[top - 1]
        spacing = 0.5 * float(tangent.norm())
        if not spacing > 0 or self._near(path[top], self._tried, 0.5 * spacing):
            return
        self._tried.append(path[top])
        self._keep_pass(path[top], tangent, spacing, barrier)

    def _keep_pass(self, peak: Tensor, tangent: Tensor, spacing: float, barrier: float) -> None:
        """Add the saddle near ``peak`` if it is a pass, and new."""
        found = find_saddle(
            lambda points: self.objective.gradients(points, _STEP),
            peak,
            tangent,
            spacing=spacing,
            barrier=barrier,
            settings=_SEARCH,
            seed=self.seed,
        )
        known = [saddle.point for saddle in self.saddles]
        if found.verdict == "pass" and not self._near(found.point, known, _SAME * self.size):
            self.saddles.append(found)
            self.spacings.append(spacing)

    @staticmethod
    def _near(point: Tensor, known: list[Tensor], distance: float) -> bool:
        return any(float((point - other).norm()) <= distance for other in known)

    def _index(self, point: Tensor) -> int:
        for index, known in enumerate(self.minima):
            if float((known - point).norm()) <= _SAME * self.size:
                return index
        self.minima.append(point)
        return len(self.minima) - 1

    def passes(self) -> list[Pass]:
        """A descent on each side of each saddle, then both as one path."""
        if not self.saddles:
            return []
        tops = torch.stack([saddle.point for saddle in self.saddles])
        sides = torch.stack([saddle.direction for saddle in self.saddles])
        steps = _DESCENT * tops.new_tensor(self.spacings)
        starts = torch.cat([tops + steps[:, None] * sides, tops - steps[:, None] * sides])
        descents, floor = self._descents(starts, torch.cat([steps, steps]))
        ends = [self._index(point) for point in floor]
        halves = []
        for number, descent in enumerate(descents):
            top = tops[number % len(tops)]
            halves.append(
                resample(torch.cat([top[None], descent, self.minima[ends[number]][None]]), _POINTS)
            )
        smooth = lowered_in_parts(self.objective, torch.stack(halves))
        found = []
        for number in range(len(tops)):
            sides_ = [
                (ends[number], smooth[number]),
                (ends[number + len(tops)], smooth[number + len(tops)]),
            ]
            (a, down), (b, other) = sorted(sides_, key=lambda side: side[0])
            path = torch.cat([down.flip(0), other[1:]])
            profile = loss_profile(self.objective, path)
            found.append(Pass((a, b), path, _POINTS - 1, profile.maximum, profile.bracket))
        return found

    def _descents(self, starts: Tensor, steps: Tensor) -> tuple[list[Tensor], Tensor]:
        """Steepest descents [k, d] from ``starts`` in even steps, and the minima below [s, d]."""
        points, trail = starts.clone(), [starts]
        before, slopes = self.objective.gradients(points, _STEP)
        steepest = torch.linalg.vector_norm(slopes, dim=1)
        size = steps.clone()
        for _ in range(_STEPS):
            losses, gradients = self.objective.gradients(points, _STEP)
            # A step that went up has crossed the floor of its valley: shorter ones from there.
            size = torch.where(losses > before, 0.5 * size, size)
            if bool((size < 1e-3 * steps).all()):
                break
            before = losses
            length = torch.linalg.vector_norm(gradients, dim=1).clamp_min(1e-300)
            steepest = torch.maximum(steepest, length)
            points = points - (size / length)[:, None] * gradients
            trail.append(points)
        floor = settled(self.objective, points, steps)
        for _ in range(_RESETTLES):  # in flat valleys: what has not arrived is no minimum
            _, slopes = self.objective.gradients(floor, _STEP)
            rough = torch.linalg.vector_norm(slopes, dim=1) > _SETTLED * steepest
            if not bool(rough.any()):
                break
            floor[rough] = settled(self.objective, floor[rough], steps[rough])
        return list(torch.stack(trail, dim=1)), floor


def lowered_in_parts(objective: Objective, paths: Tensor) -> Tensor:
    """``minimax_search.lowered`` of ``paths`` [p, n, d], a bounded amount at a time."""
    each = max(1, _ROWS // paths[0].numel())
    return torch.cat([lowered(objective, part) for part in paths.split(each)])
