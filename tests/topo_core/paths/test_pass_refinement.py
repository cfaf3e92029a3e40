"""Paths are led over saddles until their highest point is one, on surfaces whose saddles are known."""

import pytest
import scipy.optimize
import torch

from topo_core.objectives.protocol import Step, from_function
from topo_core.paths.pass_refinement import PassRefinement, advance_pass, init_pass, lead_over
from topo_core.paths.pass_state import PassState
from topo_core.paths.polyline import line
from topo_core.paths.profiles import loss_profile
from topo_core.reference_landscapes.surfaces import himmelblau, muller_brown

# The highest saddle of the lowest path: the roots of the gradients, see test_saddles.py.
KNOWN = [
    (muller_brown, (0, 1), -40.66484),  # over a third minimum and a second, lower saddle
    (muller_brown, (1, 2), -72.24894),
    (himmelblau, (0, 1), 13.31193),
    (himmelblau, (0, 2), 67.71915),
    (himmelblau, (2, 3), 104.01517),
]


def refined(objective, points, settings=None):
    state = init_pass(objective, points)
    while not state.ended:
        state = advance_pass(objective, state, settings)
        assert_continuous(state)
    return state


def assert_continuous(state):
    """Every piece begins where the part before it ends."""
    for crossing, before, after in zip(
        state.crossings, state.pieces[:-1], state.pieces[1:], strict=True
    ):
        assert torch.equal(before.points[-1], crossing.up[0])
        assert torch.equal(crossing.up[-1], crossing.down[0])
        assert torch.equal(crossing.down[-1], after.points[0])


@pytest.mark.parametrize(("landscape", "pair", "saddle"), KNOWN)
def test_the_highest_point_of_a_path_becomes_a_verified_saddle(landscape, pair, saddle):
    """From the straight line: the path keeps its ends, its dense maximum is the loss of a saddle of index 1,
    and that is the lowest pass that exists."""
    known = landscape()
    points = line(known.minima[pair[0]], known.minima[pair[1]], 9)
    state = refined(known.objective, points)
    assert state.ended == "verified"
    top = state.highest_crossing
    assert top.loss == pytest.approx(saddle, abs=1e-4) and top.index == 1
    assert torch.equal(state.best[[0, -1]], points[[0, -1]])
    height = loss_profile(known.objective, state.best).maximum
    assert height == pytest.approx(top.loss, abs=1e-4 * (top.loss - state.end_loss))


def tilted_himmelblau(a, b):
    """Himmelblau's function plus a x + b y."""

    def loss(points):
        x, y = points[:, 0], points[:, 1]
        return (x * x + y - 11) ** 2 + (x + y * y - 7) ** 2 + a * x + b * y

    return from_function(loss)


@pytest.mark.parametrize("pair", [(0, 1), (0, 2), (2, 3)])
def test_a_path_of_a_changed_loss_is_led_over_the_saddle_of_the_old_one(pair):
    """On the tilted function of Himmelblau the new saddle is reached from the old one, at less than a fifth
    of the cost of the first search.

    The height is the loss at the root of the gradient that SciPy finds. The old path itself is higher on the
    new loss, and the ends stay the same.
    """
    minima = himmelblau().minima
    first = refined(tilted_himmelblau(0, 0), line(minima[pair[0]], minima[pair[1]], 9))
    tilted = tilted_himmelblau(2.0, -3.0)

    def gradient(point):
        return tilted.gradients(torch.tensor(point)[None], Step(0, 0, 0))[1][0].numpy()

    old = first.highest_crossing.point
    root = torch.tensor(scipy.optimize.root(gradient, old.numpy(), tol=1e-12).x)
    saddle = float(tilted.losses(root[None])[0])
    state = lead_over(tilted, first.best, old[None])
    assert_continuous(state)
    assert state.ended == "verified" and state.rounds == 1
    assert state.highest_crossing.loss == pytest.approx(saddle, abs=1e-9)
    assert loss_profile(tilted, state.best).maximum == pytest.approx(saddle, rel=1e-4)
    assert loss_profile(tilted, first.best).maximum > saddle + 1e-3
    assert torch.equal(state.best[[0, -1]], first.best[[0, -1]])
    assert state.gradients + state.products < 0.2 * (first.gradients + first.products)


def test_a_search_from_a_point_without_a_saddle_changes_no_path():
    """Near a minimum a search ends at no saddle of the path: the path stays, and its refinement goes on."""
    known = muller_brown()
    points = line(known.minima[0], known.minima[1], 9)
    state = lead_over(known.objective, points, points[:1] + 1e-3)
    assert not state.ended and state.rounds == 1 and len(state.pieces) == 1
    assert torch.equal(state.best, points)
    while not state.ended:
        state = advance_pass(known.objective, state)
    assert state.ended == "verified"
    assert state.highest_crossing.loss == pytest.approx(-40.66484, abs=1e-4)


def test_a_path_is_never_higher_than_before():
    """Nor is it after every single round, whatever the pieces are."""
    known = muller_brown()
    state = init_pass(known.objective, line(known.minima[0], known.minima[1], 5))
    heights = [state.best_height]
    while not state.ended:
        state = advance_pass(known.objective, state)
        heights.append(loss_profile(known.objective, state.best).maximum)
    assert heights == sorted(heights, reverse=True)


def test_a_state_continues_with_the_same_bits():
    """Every round, through the tensors and scalars of a checkpoint."""
    known = muller_brown()
    state = init_pass(known.objective, line(known.minima[0], known.minima[1], 7))
    whole = refined(known.objective, line(known.minima[0], known.minima[1], 7))
    while not state.ended:
        state = PassState.restore(state.tensors(), state.scalars())
        state = advance_pass(known.objective, state)
    assert state.scalars() == whole.scalars()
    assert all(torch.equal(t, whole.tensors()[name]) for name, t in state.tensors().items())


def test_a_path_without_a_barrier_needs_no_saddle():
    """From a slope down to a minimum; nothing is evaluated but the losses along it."""
    bowl = from_function(lambda points: points.square().sum(1))
    state = init_pass(bowl, line(torch.tensor([1.0, 0.0]).double(), torch.zeros(2).double(), 5))
    assert (state.ended, state.gradients) == ("no barrier", 0)


def test_a_kink_at_the_highest_point_is_named():
    """The pass of -|x| + x⁴ + y² is a kink at the origin: no Hessian describes it."""
    kinked = from_function(lambda p: -p[:, 0].abs() + p[:, 0] ** 4 + p[:, 1] ** 2)
    bottom = 0.25 ** (1 / 3)
    ends = torch.tensor([[-bottom, 0.0], [bottom, 0.0]], dtype=torch.float64)
    state = refined(kinked, line(*ends, 8))
    assert state.ended == "kink" and state.best_height == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("bound", [{"rounds": 1}, {"budget": 1}])
def test_rounds_are_bounded(bound):
    """With one round, or none of the budget left, a path is as low as that round made it, and says so."""
    known = muller_brown()
    points = line(known.minima[0], known.minima[1], 9)
    state = refined(known.objective, points, PassRefinement(**bound, epochs=1, blocks=1))
    assert state.rounds == 1 and state.ended in ("budget", "verified")
    assert state.best_height <= loss_profile(known.objective, points).maximum
