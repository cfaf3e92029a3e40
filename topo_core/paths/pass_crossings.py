"""Where a refined path crosses saddles: a piece is cut at a saddle, and a loop over one is removed."""

from dataclasses import replace

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective
from topo_core.paths.pass_state import Crossing, PassState, Piece, SearchResult
from topo_core.paths.polyline import merge_coincident
from topo_core.paths.profiles import loss_profile
from topo_core.paths.starts.spliced_paths import lowest_link

_STUB = 0.25  # of the fall along a descent: this upper part of the descent is not relaxed
_SAME = 1e-4  # of the distance of the path's ends: saddles closer than this count as one


def crossing_of(state: PassState, result: SearchResult) -> int | None:
    """Index of the crossing of the saddle of ``result``; None if the path does not cross it."""
    near = _SAME * float((state.best[-1] - state.best[0]).norm())
    for index, crossing in enumerate(state.crossings):
        if crossing.number >= 0:
            point = state.results[crossing.number].point
            if float((result.point - point).norm()) <= near:
                return index
    return None


def cut_at_saddle(objective: Objective, state: PassState, number: int) -> PassState:
    """The state with piece ``number`` replaced by two pieces that meet at the saddle of the last result."""
    points, result = state.pieces[number].points, state.results[-1]
    losses = objective.losses(points)
    peak = int(losses.argmax())
    halves = (
        (points[: peak + 1], losses[: peak + 1]),
        (points[peak:].flip(0), losses[peak:].flip(0)),
    )
    both = []
    for sides in (result.sides, result.sides[::-1]):
        links = [
            lowest_link(objective, *half, side) for half, side in zip(halves, sides, strict=True)
        ]
        parts = [
            _parts(objective, half[: link.leave + 1], side[: max(link.meet, 1) + 1])
            for (half, _), link, side in zip(halves, links, sides, strict=True)
        ]
        both.append((max(link.height for link in links), parts))
    _, ((near, up), (far, down)) = min(both, key=lambda option: option[0])
    pieces = [Piece(part, loss_profile(objective, part).maximum) for part in (near, far.flip(0))]
    crossing = Crossing(len(state.results) - 1, up.flip(0), down)
    return replace(
        state,
        pieces=(*state.pieces[:number], *pieces, *state.pieces[number + 1 :]),
        crossings=(*state.crossings[:number], crossing, *state.crossings[number:]),
    )


def _parts(objective: Objective, own: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
    """A piece, and the upper part [k, d] of a descent, which is not part of the piece.

    The piece [j, d] goes from the first point of ``own`` [n, d] to a point of the descent ``side`` [m, d].
    The upper part goes from the saddle down to that point.
    """
    losses = objective.losses(side)
    enough = losses <= losses[0] - _STUB * (losses[0] - losses.min())
    stub = int(enough.to(torch.int8).argmax()) if bool(enough.any()) else len(side) - 1
    stub = max(1, stub)
    piece, _ = merge_coincident(torch.cat([own, side[stub:].flip(0)]))
    return piece, side[: stub + 1]


def without_loop(
    objective: Objective, state: PassState, number: int, crossed: int
) -> PassState | None:
    """The state without the part of the path between a crossing and the peak of piece ``number``.

    The search from this peak ended at the saddle that the path crosses at ``crossed``, so the path comes back
    to it. The part of the piece beyond its peak is joined to one of the two descents of the saddle. If this
    is the descent on which the path arrives at the saddle, the path need not cross the saddle at all.

    Returns:
        None if neither is lower than the piece.
    """
    piece, crossing = state.pieces[number], state.crossings[crossed]
    losses = objective.losses(piece.points)
    peak = int(losses.argmax())
    after = number > crossed
    if after:  # the path reaches the peak after the saddle: what follows the peak is kept
        half, half_losses = piece.points[peak:].flip(0), losses[peak:].flip(0)
        kept, stub = state.pieces[crossed].points, crossing.up.flip(0)
    else:
        half, half_losses = piece.points[: peak + 1], losses[: peak + 1]
        kept, stub = state.pieces[crossed + 1].points.flip(0), crossing.down
    sides = state.results[crossing.number].sides
    arrives = int(torch.equal(stub, sides[1][: len(stub)]))
    options: list[tuple[float, list[Tensor], Tensor | None]] = []  # height, pieces, new descent
    for index, side in enumerate(sides):
        link = lowest_link(objective, half, half_losses, side)
        if index == arrives:
            bottom = len(stub) - 1
            descent = side[bottom : link.meet + 1]
            if link.meet < bottom:
                descent = side[link.meet : bottom + 1].flip(0)
            joined = torch.cat([kept, descent, half[: link.leave + 1].flip(0)])
            whole, _ = merge_coincident(joined)
            profile = loss_profile(objective, whole)
            # It may run straight over the saddle: what its samples may have missed counts.
            options.append((profile.maximum + profile.bracket, [whole], None))
        else:
            own, new = _parts(objective, half[: link.leave + 1], side[: max(link.meet, 1) + 1])
            height = loss_profile(objective, own).maximum
            options.append((max(height, state.level), [kept, own.flip(0)], new))
    height, parts, upper = min(options, key=lambda option: option[0])
    if not height < piece.height:
        return None
    crossings = [] if upper is None else [replace(crossing, down=upper)]
    if not after:  # everything above was built from the end of the path towards its beginning
        parts = [part.flip(0) for part in reversed(parts)]
        crossings = [] if upper is None else [replace(crossing, up=upper.flip(0))]
    pieces = [Piece(part, loss_profile(objective, part).maximum) for part in parts]
    first, last = (crossed, number) if after else (number, crossed + 1)
    return replace(
        state,
        pieces=(*state.pieces[:first], *pieces, *state.pieces[last + 1 :]),
        crossings=(*state.crossings[:first], *crossings, *state.crossings[last:]),
    )
