"""Critical points of index 2: where loops of passes can be filled.

The lowest disc that fills a loop has its highest point where the loss falls in a plane of directions
and rises across it: at a hilltop in two dimensions, at a saddle of index 2 in more. Walkers climb
along their two directions of lowest curvature and descend across them (``random_walkers`` does so along one).
They start from random points and from the peaks of optimised discs, round after round.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.morse.passes import Pass
from topo_core.morse.random_walkers import (
    LONGEST_MOVE,
    QUIET_ROUNDS,
    SAME_DISTANCE,
    STRIDE,
    WalkerSteps,
    start_box,
    starts_beside,
)
from topo_core.objectives.curvature import hessian_vector_products
from topo_core.objectives.protocol import Objective, Step
from topo_core.random_streams import generator

_STEP = Step(0, 0, 0)  # gradients are exact: it names no batch
_CLIMB = 160  # steps of a climb
_WHOLE = 4  # dimensions up to which the whole Hessian is computed
_TURNS = 12  # Rayleigh–Ritz steps of three directions, until the third curvature is known
_REST = 1e-6  # gradient at which a walker has converged, relative to the median at the starts
_ZERO = 1e-6  # curvature that counts as zero, relative to the largest
_ROUNDS = 8  # of walkers, at most
_ALONG = 2  # directions that are climbed


@dataclass(frozen=True)
class IndexTwoPoint:
    """A critical point of index 2.

    Attributes:
        point: [d].
        loss: loss at the point.
        plane: [2, d], orthonormal directions of the negative curvatures.
        curvatures: the two negative curvatures, lower first.
    """

    point: Tensor
    loss: float
    plane: Tensor
    curvatures: tuple[float, float]


def find_index_two_points(
    objective: Objective,
    minima: Tensor,
    passes: Sequence[Pass],
    peaks: Sequence[Tensor] = (),
    *,
    known: Sequence[IndexTwoPoint] = (),
    given: int,
    size: float,
    walkers: int,
    seed: int,
) -> list[IndexTwoPoint]:
    """Critical points of index 2 around known minima and passes, lowest first.

    Args:
        objective: the loss, with exact gradients.
        minima: [n, d].
        passes: the passes between them.
        peaks: [d] each, further starts: the highest points of discs.
        known: points that are not returned again.
        given: number of minima that the user gave; the search is centred at their mean.
        size: extent of the set of minima, the length scale.
        walkers: number of walkers in a round; 0 to start from ``peaks`` only.
        seed: of the random starts.
    """
    if minima.shape[1] < _ALONG:
        return []
    stride, middle = STRIDE * size, minima[:given].mean(0)
    none = minima[:0]
    saddles = torch.cat([none, *(one.saddle[None] for one in passes)])
    starts = torch.cat([none, *(peak[None] for peak in peaks)])
    found: list[IndexTwoPoint] = []
    fresh, quiet, rounds = saddles, 0, 0
    while quiet < QUIET_ROUNDS and rounds < _ROUNDS:
        rounds += 1
        draw = generator(seed, "tops", rounds)
        if walkers:
            points = torch.cat([minima, saddles, *(top.point[None] for top in found)])
            axes = start_box(middle, points, size)
            points = 2 * torch.rand(walkers, len(axes), generator=draw, dtype=torch.float64) - 1
            drawn = middle + points.to(axes) @ axes
            starts = torch.cat([starts, drawn, starts_beside(fresh, stride, draw)])
        met = [top.point for top in (*known, *found)]
        new = _new(objective, starts, met, stride, SAME_DISTANCE * size)
        found += new
        quiet = 0 if new else quiet + 1
        if not walkers:
            break
        starts, fresh = none, torch.cat([none, *(top.point[None] for top in new)])
    return sorted(found, key=lambda top: top.loss)


def _new(
    objective: Objective, starts: Tensor, known: Sequence[Tensor], spacing: float, same: float
) -> list[IndexTwoPoint]:
    """The critical points of index 2 that walkers from ``starts`` [k, d] reach, without ``known`` ones."""
    if not len(starts):
        return []
    losses, gradients = objective.gradients(starts, _STEP)
    usual = float(torch.linalg.vector_norm(gradients, dim=1).nanmedian())
    points = climb_walkers(objective, starts[losses.isfinite()], spacing)
    losses, gradients = objective.gradients(points, _STEP)
    still = torch.linalg.vector_norm(gradients, dim=1) <= _REST * usual
    taken, found = list(known), list[IndexTwoPoint]()
    for row in torch.nonzero(still & losses.isfinite()).flatten().tolist():
        point = points[row]
        if any(float((point - other).norm()) <= same for other in taken):
            continue
        taken.append(point)
        plane = _plane(objective, point)
        if plane is not None:
            found.append(IndexTwoPoint(point, float(objective.losses(point[None])), *plane))
    return found


def _plane(objective: Objective, point: Tensor) -> tuple[Tensor, tuple[float, float]] | None:
    """The two directions of negative curvature at ``point`` [d]; None unless there are exactly two."""
    count = min(_ALONG + 1, len(point))
    frames = _frames(point[None], count)
    for _ in range(1 if len(point) <= _WHOLE else _TURNS):
        frames, curvatures, most = _turned(objective, point[None], frames)
    zero = _ZERO * float(most)
    first, second, *third = curvatures[0].tolist()
    if second >= -zero or (third and third[0] <= zero):
        return None
    return frames[0, :_ALONG], (first, second)


def climb_walkers(objective: Objective, starts: Tensor, spacing: float) -> Tensor:
    """The points [k, d] to which walkers from ``starts`` [k, d] have climbed along two directions.

    Many are close to critical points of index 2; some never converge.
    """
    points = starts.clone()
    frames = _frames(points, _ALONG)
    moves = WalkerSteps(LONGEST_MOVE * spacing)
    for _ in range(_CLIMB):
        _, gradients = objective.gradients(points, _STEP)
        frames, curvatures, _ = _turned(objective, points, frames)
        slopes = torch.einsum("kqd,kd->kq", frames, gradients)
        across = gradients - torch.einsum("kq,kqd->kd", slopes, frames)
        points = points + moves.next(across, slopes, curvatures, frames)
    return points


def largest_curvature(objective: Objective, points: Tensor) -> float:
    """The largest |curvature| at ``points`` [k, d], by power iteration."""
    frames = _frames(points, 1)
    for _ in range(_TURNS):
        images = _products(objective, points, frames)
        curvatures = torch.linalg.vector_norm(images, dim=2, keepdim=True)
        frames = images / curvatures.clamp_min(1e-300)
    return float(curvatures.max())


def _frames(points: Tensor, count: int) -> Tensor:
    """[k, count, d], random orthonormal directions, the same at each of ``points`` [k, d]."""
    width = points.shape[1]
    draw = generator(0, "directions", count)
    rows = torch.randn(width, count, generator=draw, dtype=torch.float64)
    frame: Tensor = torch.linalg.qr(rows).Q.T.to(points)
    return frame.expand(len(points), -1, -1)


def _turned(objective: Objective, points: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``frames`` [k, q, d] turned towards the lowest curvatures, these [k, q], and the largest [k].

    By Rayleigh–Ritz in the span of the directions and of their products with the Hessian.
    """
    width, count = points.shape[1], frames.shape[1]
    if width <= _WHOLE:
        basis = torch.eye(width, dtype=points.dtype, device=points.device)
        basis = basis.expand(len(points), -1, -1)
        images = _products(objective, points, basis)
    else:
        images = _products(objective, points, frames)
        inside = torch.einsum("kqd,kpd->kqp", images, frames)
        rest = images - torch.einsum("kqp,kpd->kqd", inside, frames)
        span = torch.cat([frames, rest], dim=1)[:, :width].transpose(1, 2)
        basis = torch.linalg.qr(span).Q.transpose(1, 2)
        images = _products(objective, points, basis)
    small = torch.einsum("kqd,kpd->kqp", basis, images)
    curvatures, weights = torch.linalg.eigh((0.5 * (small + small.transpose(1, 2))).nan_to_num())
    turned: Tensor = torch.einsum("kpq,kpd->kqd", weights[:, :, :count], basis)
    return turned, curvatures[:, :count], curvatures.abs().amax(1)


def _products(objective: Objective, points: Tensor, vectors: Tensor) -> Tensor:
    """Hessians at ``points`` [k, d] times ``vectors`` [k, q, d]."""
    rows = points[:, None].expand(vectors.shape).flatten(0, 1)
    products = hessian_vector_products(objective, rows, vectors.flatten(0, 1))
    return products.reshape(vectors.shape)
