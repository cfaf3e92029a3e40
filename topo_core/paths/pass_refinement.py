"""Refines a path until its highest point is a saddle proved to have index 1.

If a path was relaxed with minibatches and few points, its peak is far from every saddle, and a search from
there may end at any stationary point. So each round first relaxes the highest piece of the path with exact
gradients, then follows the peak of that piece to a stationary point. A saddle of index 1 cuts the piece in
two: the path then leaves its own points, goes up one descent of the saddle, and returns by the other. The new
pieces are relaxed in turn, until none of them is higher than the highest saddle that the path crosses (the
string method with a growing number of strings, as in the missing-connection strategy: Carr, Trygubenko &
Wales 2005). Then the highest loss on the path is that of a verified saddle. The descents from this saddle may
end at other minima than the ends of the path; this does not change the height of the path.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from topo_core.critical_points.classification import Tangents
from topo_core.critical_points.saddles import (
    SaddleDescent,
    SaddleSettings,
    descend_both_sides,
    refine_saddle,
)
from topo_core.objectives.protocol import Objective
from topo_core.paths.coordinate_units import coordinate_units
from topo_core.paths.insertion_settings import Insertion
from topo_core.paths.pass_crossings import crossing_of, cut_at_saddle, without_loop
from topo_core.paths.pass_state import Crossing, PassState, Piece, SearchResult
from topo_core.paths.polyline import arc_positions, at_positions, merge_coincident, segment_lengths
from topo_core.paths.profiles import is_as_low_as, loss_profile
from topo_core.paths.settings import PathSettings
from topo_core.paths.solver import PathSolver
from topo_core.paths.stationarity import peak_force

# Fractions of the barrier, the height of the path above its higher end:
_CLOSE = 1e-4  # largest height of a path above its highest saddle
_RISE = 0.05  # smallest rise of the loss beyond a dip
_POINTS = 13  # smallest number of points of a piece
# Smallest fall of a piece in a block of epochs for which relaxing it continues, as a fraction of its height
# above the highest saddle that the path crosses:
_WORTH = 0.1
_FALL = 1.0  # depth below the higher end of the path at which a search has left the path
_UNITS = (
    18  # units of a search in the length of the path: segments of a path with the usual 19 points
)


@dataclass(frozen=True)
class PassRefinement:
    """The limits of a refinement.

    Attributes:
        rounds: largest number of rounds; in each of them one piece is relaxed and one peak is followed.
        budget: number of gradients and Hessian-vector products after which no further round begins. A round
            takes 3,000 to 10,000 of them.
        epochs: epochs in one block of relaxation.
        blocks: largest number of blocks in one round.
        search: settings of the search from a peak. The saddle is near a relaxed path, so its trust radii are
            smaller than the defaults.
    """

    rounds: int = 12
    budget: int = 80_000
    epochs: int = 100
    blocks: int = 4
    search: SaddleSettings = field(
        default_factory=lambda: SaddleSettings(
            steps=200, dense=512, first=0.1, longest=0.5, reach=8.0
        )
    )


NEAR = PassRefinement(
    search=SaddleSettings(steps=20, dense=64, first=0.1, longest=0.5, reach=8.0, descent_steps=200)
)
"""Limits of searches that begin close to a saddle. They use Hessian-vector products in all but small
dimensions, since a whole Hessian costs more than such a search."""


def init_pass(objective: Objective, points: Tensor) -> PassState:
    """The state before the first round, on the path ``points`` [n, d]."""
    points, _ = merge_coincident(points.detach().clone())
    height = loss_profile(objective, points).maximum
    end_loss = float(objective.losses(points[[0, -1]]).max())
    state = PassState(
        pieces=(Piece(points, height),),
        crossings=(),
        results=(),
        best=points,
        best_height=height,
        first_height=height,
        end_loss=end_loss,
        rounds=0,
        ended="",
        gradients=0,
        products=0,
    )
    return _judged(objective, state, PassRefinement())


def advance_pass(
    objective: Objective,
    state: PassState,
    settings: PassRefinement | None = None,
    *,
    symmetries: Tangents | None = None,
    seed: int = 0,
) -> PassState:
    """The state after one more round.

    Args:
        objective: the loss, with exact gradients.
        state: a state with an empty ``ended``.
        settings: None for the defaults.
        symmetries: tangents of continuous symmetries of the loss; see ``refine_saddle``.
        seed: determines the random directions of the classification.
    """
    settings = settings or PassRefinement()
    state = _cut_at_dips(objective, replace(state, rounds=state.rounds + 1))
    number = _highest(state)
    state = _relaxed(objective, state, number, settings)
    state = _judged(objective, state, settings)
    if state.ended or state.pieces[number].height <= state.level:
        return state
    points = state.pieces[number].points
    state, result = _followed(objective, state, points, settings, symmetries, seed)
    state = replace(state, results=(*state.results, result))
    if result.verdict == "kink":
        return replace(state, ended="kink")
    changed = _crossing(objective, state, number) if result.is_pass else None
    if changed is None and state.pieces[number].stagnated:
        return replace(state, ended="no saddle")
    return _judged(objective, changed or state, settings)


def lead_over(
    objective: Objective,
    points: Tensor,
    saddles: Tensor,
    settings: PassRefinement | None = None,
    *,
    symmetries: Tangents | None = None,
    seed: int = 0,
) -> PassState:
    """The state of a path led over the saddles near given points, before any piece is relaxed.

    If the saddles of a path are known nearly (those of a loss that has changed a little, say), a search from
    there takes a few steps. Each search cuts the highest piece, until the highest point of the path is a
    verified saddle or a search reaches none. Then ``advance_pass`` continues; each search counts as a round.

    Args:
        objective: the loss, with exact gradients.
        points: [n, d], the path.
        saddles: [k, d], points near the saddles that the path crosses, in any order.
        settings: None for the defaults.
        symmetries: as for ``advance_pass``.
        seed: determines the random directions of the classification.
    """
    settings = settings or PassRefinement()
    state, left = init_pass(objective, points), [*saddles]
    while left and not state.ended:
        number = _highest(state)
        piece = state.pieces[number].points
        peak = piece[int(objective.losses(piece).argmax())]
        start = left.pop(min(range(len(left)), key=lambda k: float((left[k] - peak).norm())))
        state = replace(state, rounds=state.rounds + 1)
        height, chord = state.pieces[number].height, _chord_at(points, start)
        state, result = _searched(
            objective, state, start, chord, height, settings, symmetries, seed
        )
        state = replace(state, results=(*state.results, result))
        changed = _crossing(objective, state, number) if result.is_pass else None
        if changed is None:
            break
        state = _judged(objective, changed, settings)
    return state


def _chord_at(points: Tensor, point: Tensor) -> Tensor:
    """The direction [d] of the path ``points`` [n, d] near ``point`` [d]."""
    nearest = int((points - point).norm(dim=1).argmin())
    return points[min(nearest + 1, len(points) - 1)] - points[max(nearest - 1, 0)]


def _crossing(objective: Objective, state: PassState, number: int) -> PassState | None:
    """The state whose piece ``number`` crosses the saddle of the last result; None if that is no lower."""
    crossed = crossing_of(state, state.results[-1])
    if crossed is not None:
        return without_loop(objective, state, number, crossed)
    return cut_at_saddle(objective, state, number)


def _judged(objective: Objective, state: PassState, settings: PassRefinement) -> PassState:
    """The state with its lowest path updated, and with ``ended`` set if nothing is left to do."""
    height = max(state.level, *(piece.height for piece in state.pieces))
    if height < state.best_height:
        state = replace(state, best=state.path, best_height=height)
    top = state.highest_crossing
    ends = objective.losses(state.best[[0, -1]])
    if is_as_low_as(state.best_height, ends, state.best.dtype):
        return replace(state, ended="no barrier")
    close = _CLOSE * (state.level - state.end_loss)
    if top is not None and top.loss > state.end_loss and height <= top.loss + close:
        # The dense maximum of the path decides: losses between the points of a descent were sampled only.
        path = state.path
        height = loss_profile(objective, path).maximum
        if height <= top.loss + close:
            return replace(state, best=path, best_height=height, ended="verified")
    if state.rounds >= settings.rounds or state.gradients + state.products >= settings.budget:
        return replace(state, ended="budget")
    return state


def _highest(state: PassState) -> int:
    """Number of the highest piece."""
    return max(range(len(state.pieces)), key=lambda k: state.pieces[k].height)


def _cut_at_dips(objective: Objective, state: PassState) -> PassState:
    """The state with the highest piece cut at the dips of the loss beside its peak.

    A path that crosses several basins has too few points for all of them; each piece gets its own points.
    """
    number = _highest(state)
    piece = state.pieces[number]
    profile = loss_profile(objective, piece.points)
    barrier = profile.maximum - state.end_loss
    losses, peak = profile.losses, profile.argmax
    last = len(losses) - 1
    cuts = [
        _dip(side, state.end_loss, barrier) for side in (losses[: peak + 1].flip(0), losses[peak:])
    ]
    where = [peak - cuts[0] if cuts[0] else 0, peak + cuts[1] if cuts[1] else last]
    if where == [0, last]:
        return state
    positions = arc_positions(piece.points)
    at = profile.positions[where].to(positions)
    points = at_positions(piece.points, positions, at)
    inside = [(positions < at[0]), (positions > at[0]) & (positions < at[1]), positions > at[1]]
    parts = [
        torch.cat([piece.points[inside[0]], points[:1]]),
        torch.cat([points[:1], piece.points[inside[1]], points[1:]]),
        torch.cat([points[1:], piece.points[inside[2]]]),
    ]
    heights = [float(part.max()) for part in (losses[: where[0] + 1], losses, losses[where[1] :])]
    pieces = [Piece(part, height) for part, height in zip(parts, heights, strict=True)]
    kept = slice(0 if where[0] else 1, 3 if where[1] < last else 2)
    pieces = pieces[kept]
    joints = [Crossing(-1, piece.points[:1], piece.points[:1]) for piece in pieces[1:]]
    return replace(
        state,
        pieces=(*state.pieces[:number], *pieces, *state.pieces[number + 1 :]),
        crossings=(*state.crossings[:number], *joints, *state.crossings[number:]),
    )


def _dip(losses: Tensor, end_loss: float, barrier: float) -> int:
    """Index of the first dip of ``losses`` [m], which begin at a peak; 0 if there is none.

    A cut fixes the point at the dip, so only a point that is no higher than the higher end of the whole path
    counts as a dip.
    """
    lowest = losses.cummin(0)
    left = lowest.values <= end_loss
    left &= losses - lowest.values >= _RISE * barrier
    return int(lowest.indices[int(left.to(torch.int8).argmax())]) if bool(left.any()) else 0


def _relaxed(
    objective: Objective, state: PassState, number: int, settings: PassRefinement
) -> PassState:
    """The state with one piece relaxed.

    The first time, relaxing stops when a block of epochs lowers the piece only a little. Later times use all
    blocks.
    """
    piece = state.pieces[number]
    if piece.stagnated or (not piece.relaxed and _near_a_saddle(objective, state, piece)):
        return state
    epochs, again = settings.epochs * settings.blocks, piece.relaxed > 0
    points = _dense(piece.points)
    solver = PathSolver(objective, _relaxation(epochs, points, settings))
    units, spent = coordinate_units(objective, points[0], points[-1], 0)
    path = solver.begin(points, spent=spent, units=units)
    first = path.best_maximum
    while path.epoch < epochs:
        before = path.best_maximum
        path = solver.advance(path, 0, until_epoch=path.epoch + settings.epochs)
        little = not before - path.best_maximum > _worth(state, path.best_maximum)
        low = path.best_maximum <= state.level
        if low or solver.is_finished(path) or (little and not again):
            break
    stagnated = again and not first - path.best_maximum > _worth(state, path.best_maximum)
    pieces = list(state.pieces)
    pieces[number] = Piece(path.best, path.best_maximum, piece.relaxed + 1, stagnated)
    gradients = state.gradients + path.gradient_evaluations
    return replace(state, pieces=tuple(pieces), gradients=gradients)


def _relaxation(epochs: int, points: Tensor, settings: PassRefinement) -> PathSettings:
    """Settings of the relaxation of a piece.

    In many dimensions a piece keeps the number of its points, since its cost is proportional to it.
    """
    if points.shape[1] <= settings.search.dense:
        return PathSettings(epochs=epochs, l2=0.0)
    fixed = Insertion(max_points=max(len(points), PathSettings().points))
    return PathSettings(epochs=epochs, l2=0.0, insertion=fixed)


def _near_a_saddle(objective: Objective, state: PassState, piece: Piece) -> bool:
    """Whether the peak of a piece is nearly stationary, so that relaxing would lower the piece only a
    little."""
    profile = loss_profile(objective, piece.points)
    force = peak_force(objective, piece.points, profile)
    return force is not None and force.fall <= _worth(state, profile.maximum)


def _worth(state: PassState, height: float) -> float:
    """The smallest fall, in units of loss, for which relaxing a piece of this height continues.

    Only the part above the highest saddle that is crossed already can be gained.
    """
    return _WORTH * (height - state.level)


def _dense(points: Tensor) -> Tensor:
    """The polygon ``points`` [n, d] with its longest segments halved, until it has enough points."""
    while len(points) < _POINTS:
        longest = int(segment_lengths(points).argmax())
        middle = points[longest : longest + 2].mean(0, keepdim=True)
        points = torch.cat([points[: longest + 1], middle, points[longest + 1 :]])
    return points


def _followed(
    objective: Objective,
    state: PassState,
    points: Tensor,
    settings: PassRefinement,
    symmetries: Tangents | None,
    seed: int,
) -> tuple[PassState, SearchResult]:
    """The result of a search from the peak of ``points`` [n, d], with descents if it is a saddle of index
    1."""
    profile = loss_profile(objective, points)
    positions = arc_positions(points)
    position = profile.positions[profile.argmax].to(positions)
    right = int(torch.searchsorted(positions, position).clamp(1, len(points) - 1))
    (peak,) = at_positions(points, positions, position[None])
    chord = points[right] - points[right - 1]
    height = profile.maximum
    return _searched(objective, state, peak, chord, height, settings, symmetries, seed)


def _searched(
    objective: Objective,
    state: PassState,
    start: Tensor,
    direction: Tensor,
    height: float,
    settings: PassRefinement,
    symmetries: Tangents | None,
    seed: int,
) -> tuple[PassState, SearchResult]:
    """The result of a search from ``start`` [d] along ``direction`` [d], with descents if it is a saddle of
    index 1.

    Args:
        objective: the loss, with exact gradients.
        state: the state, whose counts of gradients and products are increased.
        start: where the search begins.
        direction: the direction to climb, of any length above 0.
        height: loss at the highest point of the path there.
        settings: the limits.
        symmetries: as for ``advance_pass``.
        seed: determines the random directions of the classification.
    """
    unit = float(segment_lengths(state.best).sum()) / _UNITS
    floor = state.end_loss - _FALL * (height - state.end_loss)
    saddle = refine_saddle(
        objective,
        start,
        direction * (unit / float(direction.norm())),
        settings.search,
        floor=floor,
        symmetries=symmetries,
        seed=seed + state.rounds,
    )
    sides: tuple[SaddleDescent, ...] = ()
    if saddle.is_pass:
        sides = descend_both_sides(objective, saddle, settings.search)
    state = replace(
        state,
        gradients=state.gradients + saddle.gradients + sum(side.gradients for side in sides),
        products=state.products + saddle.products + sum(side.products for side in sides),
    )
    return state, SearchResult.of(saddle, sides)
