"""A refined path that comes back to a saddle loses the loop between both visits."""

from dataclasses import replace

import pytest
import torch

from topo_core.objectives.protocol import from_function
from topo_core.paths.pass_crossings import crossing_of, without_loop
from topo_core.paths.pass_state import Crossing, PassState, Piece, SearchResult
from topo_core.paths.profiles import loss_profile

WELLS = from_function(lambda x: (x[:, 0] ** 2 - 1) ** 2 + x[:, 1] ** 2)  # minima at ±1, saddle at 0


def points(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def descent(sign):
    """From the saddle to a minimum, in a hundred steps."""
    return torch.linspace(0, sign, 101, dtype=torch.float64)[:, None] * points([1.0, 0.0])


SADDLE = SearchResult(
    point=points([0.0, 0.0])[0],
    sides=(descent(-1.0), descent(1.0)),
    peak_loss=1.1,
    loss=1.0,
    gradient_norm=0.0,
    tolerance=1e-9,
    eigenvalues=(-4.0, 2.0),
    bounds=(0.0, 0.0),
    index=1,
    verdict="saddle",
    reason="",
    end_losses=(0.0, 0.0),
    end_converged=(True, True),
)


def state_of(last):
    """A path from the left minimum over the saddle, and then along ``last`` [n, 2]."""
    pieces = (points([-1.0, 0.0], [-0.5, 0.0]), last)
    crossing = Crossing(0, SADDLE.sides[0][:51].flip(0), SADDLE.sides[1][:51])
    state = PassState(
        pieces=tuple(Piece(each, loss_profile(WELLS, each).maximum) for each in pieces),
        crossings=(crossing,),
        results=(SADDLE,),
        best=torch.cat([crossing.up, last]),
        best_height=2.0,
        first_height=2.0,
        end_loss=0.1,
        rounds=1,
        ended="",
        gradients=0,
        products=0,
    )
    return replace(state, best=state.path)


def reversed_state(state):
    """The same path from its end to its beginning."""
    (crossing,) = state.crossings
    return replace(
        state,
        pieces=tuple(replace(p, points=p.points.flip(0)) for p in reversed(state.pieces)),
        crossings=(Crossing(0, crossing.down.flip(0), crossing.up.flip(0)),),
        best=state.best.flip(0),
    )


TO_THE_RIGHT = points([0.5, 0.0], [0.05, 0.3], [0.6, 0.0], [1.0, 0.0])
TO_THE_LEFT = points([0.5, 0.0], [0.05, 0.3], [-0.6, 0.1], [-1.0, 0.2])


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    ("last", "crosses"), [(TO_THE_RIGHT, True), (TO_THE_LEFT, False)], ids=["right", "left"]
)
def test_a_loop_over_a_crossed_saddle_is_removed(last, crosses, backwards):
    """The path keeps its ends and its saddle; if it returns to its own side it needs no saddle at all."""
    state = state_of(last)
    number = 1
    if backwards:
        state, number = reversed_state(state), 0
    assert crossing_of(state, SADDLE) == 0
    shorter = without_loop(WELLS, state, number, 0)
    assert shorter is not None
    assert len(shorter.crossings) == crosses and len(shorter.pieces) == 1 + crosses
    assert torch.equal(shorter.path[[0, -1]], state.path[[0, -1]])
    highest = loss_profile(WELLS, shorter.path).maximum
    assert highest == pytest.approx(1.0, abs=1e-9) if crosses else highest < 0.7
    for crossing, before, after in zip(
        shorter.crossings, shorter.pieces[:-1], shorter.pieces[1:], strict=True
    ):
        assert torch.equal(before.points[-1], crossing.up[0])
        assert torch.equal(crossing.up[-1], crossing.down[0])
        assert torch.equal(crossing.down[-1], after.points[0])


def test_no_loop_is_removed_at_the_price_of_a_higher_path():
    """A part beyond the peak that reaches neither descent below the peak stays as it is."""
    ridge = from_function(lambda x: (x[:, 0] ** 2 - 1) ** 2 + x[:, 1] ** 2 * (4 - x[:, 1]) ** 2)
    last = points([0.5, 0.0], [0.05, 0.3], [0.3, 3.7], [1.0, 4.0])
    state = state_of(last)
    high = replace(state.pieces[1], height=1.05)
    assert without_loop(ridge, replace(state, pieces=(state.pieces[0], high)), 1, 0) is None
