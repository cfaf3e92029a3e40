"""Every pass as an edge of its own: what a complex on the minima alone cannot see.

Triangles of paths between minima see neither a loop made of two passes between the same two
minima nor a ring with fewer than three of them; and where paths are the lowest possible, they
see no loop that closes at a pass which merges nothing, for the lowest path goes another way.

Here every pair of minima is joined along several routes, the peak of each is followed to its
saddle, and from there a descent on each side finds the two minima that it joins. Those saddles are
the edges of a graph with as many edges between two minima as there are passes.

Exact gradients are needed, as for ``routes``, whose starts and batched descents are used.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.draws import generator
from topo_core.objective import Objective, Step
from topo_core.path import line, resample
from topo_core.profile import loss_profile
from topo_core.routes import arches, lowered, settled
from topo_core.saddle import Saddle, SaddleSettings, find_saddle

_STEP = Step(0, 0, 0)  # gradients are exact: it names no batch
_POINTS = 19
_ROWS = 1 << 22  # numbers in one batch of paths
_SAME = 1e-3  # places closer than this fraction of the size of the set of minima are one
_RIPPLE = 1e-4  # of the range of losses on a path: shallower dips are none
_DESCENT = 0.1  # a step of a recorded descent, in spacings
_STEPS = 800  # of a recorded descent
_ROUNDS = 2  # of wandering routes
_WANDERERS = 48  # in a round
_WIDE = 1.5  # how far they go, in extents of what is known
_PEAKS = 40  # passes from which further routes start
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
    """Attributes:
    minima: [n, d]; those that were given come first, then those below passes and dips.
    passes: lowest first.
    """

    minima: Tensor
    passes: tuple[Pass, ...]


def find_passes(objective: Objective, minima: Tensor, *, seed: int) -> Passes:
    """The passes that paths along several routes between ``minima`` [n, d] lead over.

    Routes first join all minima, then minima and the passes that were found; at last some wander
    through drawn places in the span of what is known, closed ones among them.

    Raises:
        ValueError: for an objective with minibatches.
    """
    if objective.batches != 1:
        raise ValueError(
            f"subdivide needs exact gradients, and the objective has {objective.batches} "
            "minibatches; leave it out, or give an objective over the whole training set."
        )
    search = _Search(objective, minima, seed)
    search.explore(list(itertools.combinations(minima, 2)))
    known = len(search.minima)
    places = [*search.minima, *(found.point for found in search.saddles[:_PEAKS])]
    search.explore(
        [
            (places[i], places[j])
            for i, j in itertools.combinations(range(len(places)), 2)
            if i < known and j >= len(minima)
        ]
    )
    for _ in range(_ROUNDS):
        search.wander()
    passes = sorted(search.passes(), key=lambda one: one.height)
    return Passes(torch.stack(search.minima), tuple(passes))


class _Search:
    def __init__(self, objective: Objective, minima: Tensor, seed: int) -> None:
        self.objective, self.seed = objective, seed
        self.minima = list(minima)
        self.size = float(torch.cdist(minima, minima).max())
        self.saddles: list[Saddle] = []
        self.spacings: list[float] = []
        self._tried: list[Tensor] = []
        self._round = 0

    def explore(self, pairs: list[tuple[Tensor, Tensor]]) -> None:
        """Lower a line and arches between each of ``pairs``; follow their peaks to saddles."""
        starts: list[Tensor] = []
        for first, second in pairs:
            straight = line(first, second, _POINTS)
            starts += [straight, *arches(self.objective, straight, self.seed)]
        self._lower(starts)

    def wander(self) -> None:
        """Lower routes from minimum to minimum through two drawn places each."""
        known = torch.stack([*self.minima, *(found.point for found in self.saddles)])
        middle = known.mean(0)
        # Coordinates in the span of what is known, of at most as many dimensions as places.
        _, sizes, axes = torch.linalg.svd(known - middle, full_matrices=False)
        axes = axes[sizes > 1e-9 * sizes.max()]
        reach = _WIDE * ((known - middle) @ axes.T).abs().amax(0)
        self._round += 1
        draw = generator(self.seed, "wander", self._round)
        starts = []
        for _ in range(_WANDERERS):
            ends = torch.randint(len(self.minima), (2,), generator=draw).tolist()
            places = 2 * torch.rand(2, len(axes), generator=draw, dtype=torch.float64) - 1
            through = middle + (places.to(known) * reach) @ axes
            route = torch.stack([self.minima[ends[0]], *through, self.minima[ends[1]]])
            starts.append(resample(route, _POINTS))
        self._lower(starts)

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
        found = find_saddle(
            lambda points: self.objective.gradients(points, _STEP),
            path[top],
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
    def _near(place: Tensor, known: list[Tensor], distance: float) -> bool:
        return any(float((place - other).norm()) <= distance for other in known)

    def _index(self, place: Tensor) -> int:
        for index, known in enumerate(self.minima):
            if float((known - place).norm()) <= _SAME * self.size:
                return index
        self.minima.append(place)
        return len(self.minima) - 1

    def passes(self) -> list[Pass]:
        """A descent on each side of each saddle, then both as one path."""
        if not self.saddles:
            return []
        tops = torch.stack([saddle.point for saddle in self.saddles])
        sides = torch.stack([saddle.direction for saddle in self.saddles])
        steps = _DESCENT * tops.new_tensor(self.spacings)
        starts = torch.cat([tops + steps[:, None] * sides, tops - steps[:, None] * sides])
        ways, floor = self._descents(starts, torch.cat([steps, steps]))
        ends = [self._index(place) for place in floor]
        halves = []
        for number, way in enumerate(ways):
            top = tops[number % len(tops)]
            halves.append(
                resample(torch.cat([top[None], way, self.minima[ends[number]][None]]), _POINTS)
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
        places, trail = starts.clone(), [starts]
        before, _ = self.objective.gradients(places, _STEP)
        size = steps.clone()
        for _ in range(_STEPS):
            losses, gradients = self.objective.gradients(places, _STEP)
            # A step that went up has crossed the floor of its valley: shorter ones from there.
            size = torch.where(losses > before, 0.5 * size, size)
            if bool((size < 1e-3 * steps).all()):
                break
            before = losses
            length = torch.linalg.vector_norm(gradients, dim=1).clamp_min(1e-300)
            places = places - (size / length)[:, None] * gradients
            trail.append(places)
        floor = settled(self.objective, places, steps)
        ways = torch.stack(trail, dim=1)
        return list(ways), floor


def lowered_in_parts(objective: Objective, paths: Tensor) -> Tensor:
    """``routes.lowered`` of ``paths`` [p, n, d], a bounded amount at a time."""
    each = max(1, _ROWS // paths[0].numel())
    return torch.cat([lowered(objective, part) for part in paths.split(each)])
