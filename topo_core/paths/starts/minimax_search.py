"""The start ``routes``: a search for the lowest route over a small graph of minima, for exact gradients.

A path method stays in the valley in which it starts. If gradients are exact and cheap, a search over several
valleys finds lower paths:

1. The straight line, and arches on both sides of it along the main direction of the gradients across the
   line (a random direction where symmetry makes these vanish), are relaxed together.
2. From each dip of a relaxed path a descent leads to a minimum. The parts of the path between dips become
   edges of the graph.
3. The highest edge of the lowest route is its pass. Next, straight lines from minima on one side of that pass
   to minima on the other side are relaxed, nearest pairs first, until no remaining pair can make a lower
   route or the rounds are used up.

The start is the whole route, resampled; the optimiser then relaxes it as one path.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective, Step
from topo_core.paths.chords import Chords
from topo_core.paths.descent_directions import descent_
from topo_core.paths.displacements import displacement, empty_slots
from topo_core.paths.polyline import arc_positions, at_positions, line, resample
from topo_core.paths.profiles import loss_profile
from topo_core.paths.settings import ResolvedSettings
from topo_core.paths.starts.protocol import Start
from topo_core.paths.tangents.improved import IMPROVED
from topo_core.paths.update_settings import OptimizerSettings
from topo_core.random_streams import generator

_ARCHES = (0.3, 0.7, 1.2)  # heights of the arches, in units of the distance of the ends
_STEPS = 120  # steps in which a batch of paths is relaxed
_SPREAD = 10  # steps between redistributions
_ROUNDS = 6  # largest number of rounds
_PAIRS = 6  # lines relaxed in one round
_MOVE = 0.5  # longest displacement, in units of the spacing
_SAME = 0.02  # of the distance of the ends: minima closer than this count as one
_SECANT = OptimizerSettings(name="secant")
_ROUGH = 1e-4  # of the range of losses: accuracy of heights in the graph
_STEP = Step(0, 0, 0)  # a placeholder: exact gradients do not depend on the step


def routes_start(
    objective: Objective, start: Tensor, end: Tensor, resolved: ResolvedSettings, seed: int
) -> Start:
    """The start ``routes``: ``lowest_route`` with as many points as the settings ask for."""
    return Start(*lowest_route(objective, start, end, resolved.settings.points, seed))


def lowest_route(
    objective: Objective, start: Tensor, end: Tensor, points: int, seed: int
) -> tuple[Tensor, int]:
    """A path [points, d] along the lowest known route from ``start`` to ``end`` [d].

    The second value is the number of rows whose gradient was evaluated.
    """
    objective = _GradientCounter(objective)
    straight = line(start, end, points)
    atlas = _Map(objective, start, end)
    first = torch.stack([straight, *arches(objective, straight, seed)])
    for path in relaxed_paths(objective, first):
        atlas.add(path, 0, 1)
    if (0, 1) not in atlas.edges:
        return straight, objective.rows  # the loss is not finite on any of them
    tried = {(0, 1)}
    for _ in range(_ROUNDS):
        pairs = [pair for pair in atlas.promising() if pair not in tried][:_PAIRS]
        if not pairs:
            break
        tried.update(pairs)
        lines = [line(atlas.minima[i], atlas.minima[j], points) for i, j in pairs]
        for path, (i, j) in zip(relaxed_paths(objective, torch.stack(lines)), pairs, strict=True):
            atlas.add(path, i, j)
    _, parts = atlas.route()
    route = resample(torch.cat(parts), points)
    (low,) = relaxed_paths(objective, route[None])
    candidates = [straight, route, low, resample(atlas.edges[0, 1].path, points)]
    heights = [_finite(loss_profile(objective, path).maximum) for path in candidates]
    return candidates[min(range(len(heights)), key=heights.__getitem__)], objective.rows


def _finite(height: float) -> float:
    """The height, or infinity where it is NaN, so that such a path is never the lowest."""
    return height if math.isfinite(height) else math.inf


class _GradientCounter:
    """An objective that counts the rows at which gradients are evaluated."""

    batches = 1

    def __init__(self, inner: Objective) -> None:
        self.inner, self.dimension, self.rows = inner, inner.dimension, 0
        self.losses = inner.losses

    def gradients(self, points: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        self.rows += len(points)
        return self.inner.gradients(points, step)


def arches(objective: Objective, straight: Tensor, seed: int) -> list[Tensor]:
    """Arches [n, d] beside the line ``straight`` [n, d], on both sides and of several heights."""
    start, points = straight[0], len(straight)
    chord = straight[-1] - start
    length = float(chord.norm())
    if length == 0:
        return []
    along = chord / length
    _, gradients = objective.gradients(straight[1:-1], _STEP)
    across = gradients - (gradients @ along)[:, None] * along
    scale = float(gradients.norm())
    if float(across.norm()) > 1e-6 * scale:
        # The dominant right singular vector, from the small Gram matrix.
        _, vectors = torch.linalg.eigh(across @ across.T)
        side = vectors[:, -1] @ across
    else:
        draw = torch.randn(len(start), generator=generator(seed, "arch"), dtype=torch.float64)
        side = draw.to(chord) - (draw.to(chord) @ along) * along
    size = float(side.norm())
    if size == 0:
        return []
    wave = torch.sin(torch.linspace(0, math.pi, points, dtype=start.dtype, device=start.device))
    wave[0] = wave[-1] = 0.0
    arch = wave[:, None] * (side / size) * length
    scales = [sign * height for height in _ARCHES for sign in (1, -1)]
    return [resample(straight + scale * arch, points) for scale in scales]


def relaxed_paths(objective: Objective, paths: Tensor) -> Tensor:
    """``paths`` [p, n, d], relaxed together by ``_STEPS`` steps of the string method."""
    paths = paths.clone()
    count, size, width = paths.shape
    moving = size - 2
    losses = objective.losses(paths.reshape(-1, width)).to(paths.dtype).reshape(count, size)
    slots = empty_slots(_SECANT, paths.reshape(-1, width))
    slots = {name: slot.reshape(count, size, -1) for name, slot in slots.items()}
    for step in range(1, _STEPS + 1):
        inner = paths[:, 1:-1].reshape(count * moving, width)
        inner_losses, gradients = objective.gradients(inner, _STEP)
        losses[:, 1:-1] = inner_losses.reshape(count, moving)
        chords = Chords.of(paths)
        gradients = gradients.clone()  # descent_ writes into them, and the objective may keep them
        descent_(IMPROVED, chords, gradients.view(count, moving, width), losses.unfold(1, 3, 1))
        rows = {name: slot[:, 1:-1].clone().flatten(0, 1) for name, slot in slots.items()}
        moved = displacement(
            _SECANT,
            rows,
            gradients,
            0.0,
            spacing=torch.minimum(chords.back_back, chords.front_front).sqrt().flatten(),
            max_move=_MOVE,
        )
        paths[:, 1:-1] -= moved.reshape(count, moving, width)
        for name, slot in rows.items():
            slots[name][:, 1:-1] = slot.reshape(count, moving, -1)
        if step % _SPREAD == 0:
            _spread(paths, [losses[:, :, None], *slots.values()])
    return paths


def _spread(paths: Tensor, carried: Sequence[Tensor]) -> None:
    """Redistribute each of ``paths`` [p, n, d], and the ``carried`` rows of its points, in place."""
    wanted = torch.linspace(0, 1, paths.shape[1], dtype=torch.float64, device=paths.device)[1:-1]
    positions = arc_positions(paths)
    for rows in (*carried, paths):
        rows[:, 1:-1] = at_positions(rows, positions, wanted)


def descended(objective: Objective, points: Tensor, spacing: float | Tensor) -> Tensor:
    """``points`` [k, d] after a separate descent from each, with steps below its ``spacing`` [k] or a
    scalar."""
    points = points.clone()
    slots = empty_slots(_SECANT, points)
    near = torch.as_tensor(spacing, dtype=points.dtype, device=points.device).expand(len(points))
    for _ in range(_STEPS):
        _, gradients = objective.gradients(points, _STEP)
        moved = displacement(_SECANT, slots, gradients.clone(), 0.0, spacing=near, max_move=_MOVE)
        points -= moved
    return points


@dataclass(frozen=True)
class _Edge:
    """A path from the lower to the higher of two indices, and its height."""

    height: float
    path: Tensor


class _Map:
    """Minima, and the lowest known paths between them; the ends of the search are 0 and 1."""

    def __init__(self, objective: Objective, start: Tensor, end: Tensor) -> None:
        self.objective = objective
        self.minima = [start, end]
        self.losses: list[float] = objective.losses(torch.stack(self.minima)).tolist()
        self.chord = float((end - start).norm())
        self.edges: dict[tuple[int, int], _Edge] = {}

    def add(self, path: Tensor, i: int, j: int) -> None:
        """Add a relaxed ``path`` [n, d] from minimum i to minimum j, and its parts between dips."""
        if not bool(path.isfinite().all()):
            return
        self._offer(path, i, j)
        dips = self._dips(path)
        if not dips:
            return
        minima = descended(self.objective, path[dips], self.chord / len(path))
        stops = [i, *(self._index(minimum) for minimum in minima), j]
        cuts = itertools.pairwise([0, *dips, len(path) - 1])
        for (a, b), (first, last) in zip(itertools.pairwise(stops), cuts, strict=True):
            ends = self.minima[a][None], self.minima[b][None]
            self._offer(torch.cat([ends[0], path[first : last + 1], ends[1]]), a, b)

    def route(self) -> tuple[float, list[Tensor]]:
        """Height and parts of the lowest route from 0 to 1, which is the path in the minimum spanning
        tree."""
        leads = self._tree(math.inf)
        height, parts, here = -math.inf, list[Tensor](), 1
        while here != 0:
            before = leads[here]
            edge = self.edges[min(before, here), max(before, here)]
            parts.append(edge.path if before < here else edge.path.flip(0))
            height = max(height, edge.height)
            here = before
        return height, parts[::-1]

    def promising(self) -> list[tuple[int, int]]:
        """Pairs of minima on different sides of the pass of the lowest route, nearest pairs first.

        A lower route must connect the two sides along a path that is not yet in the graph. Minima above the
        pass cannot be part of it and are left out.
        """
        height, _ = self.route()
        here, there = set(self._tree(height)), set(self._tree(height, root=1))
        low = [i for i, loss in enumerate(self.losses) if loss < height]
        pairs = {
            (min(i, j), max(i, j))
            for i in low
            for j in low
            if (i in here and j not in here) or (j in there and i not in there)
        }
        return sorted(
            pairs, key=lambda pair: float((self.minima[pair[0]] - self.minima[pair[1]]).norm())
        )

    def _tree(self, below: float, root: int = 0) -> dict[int, int]:
        """Prim's tree from ``root`` over edges lower than ``below``: each minimum's parent."""
        parents = {root: root}
        while True:
            open_edges = [
                (edge.height, i, j)
                for (i, j), edge in self.edges.items()
                if (i in parents) != (j in parents) and edge.height < below
            ]
            if not open_edges:
                return parents
            _, i, j = min(open_edges)
            parents.update({j: i} if i in parents else {i: j})

    def _offer(self, path: Tensor, i: int, j: int) -> None:
        """Keep ``path`` as the edge between i and j if it is the lowest so far."""
        if i == j:
            return
        height = loss_profile(self.objective, path, tolerance=_ROUGH).maximum
        key = min(i, j), max(i, j)
        if not math.isfinite(height):
            return
        if key not in self.edges or height < self.edges[key].height:
            self.edges[key] = _Edge(height, path if i < j else path.flip(0))

    def _index(self, minimum: Tensor) -> int:
        """The index of ``minimum`` [d]; a minimum that is not known yet is added."""
        for index, known in enumerate(self.minima):
            if float((known - minimum).norm()) < _SAME * self.chord:
                return index
        self.minima.append(minimum)
        self.losses.append(float(self.objective.losses(minimum[None])))
        return len(self.minima) - 1

    def _dips(self, path: Tensor) -> list[int]:
        """Indices of points of ``path`` [n, d] that are lower than the left neighbour by more than rounding
        effects, and not higher than the right neighbour."""
        losses = self.objective.losses(path)
        ripple = _ROUGH * float(losses.max() - losses.min())
        inner = losses[1:-1]
        dips = (losses[:-2] > inner + ripple) & (losses[2:] >= inner)
        return (torch.nonzero(dips).flatten() + 1).tolist()
