"""Routes between badly scaled minima, by way of a loss with a ridge."""

import math

import pytest
import torch

from tests.benchmarks.barrier_landscapes import unregularised
from topo_core.objectives.protocol import from_function
from topo_core.objectives.weight_decay import WithWeightDecay
from topo_core.paths.convergence import Outcome
from topo_core.paths.optimize import optimize_path
from topo_core.paths.settings import PathSettings
from topo_core.paths.solver import PathSolver
from topo_core.paths.starts.ridge_continuation import ridged_route
from topo_core.paths.starts.route_settings import RouteSettings
from topo_core.paths.starts.saddle_routes import RouteSearch


def tanh_regression(points):
    """One input, two tanh units, one output; 101 points of a curve; squared error and no ridge."""
    x = torch.linspace(-math.pi, math.pi, 101, dtype=torch.float64)
    y = -0.31 * x.sin() + 0.72 * (2 * x).sin() - 0.21 * x.cos() + 0.89 * (2 * x).cos()
    weight, bias, out, shift = points.split([2, 2, 2, 1], dim=1)
    hidden = torch.tanh(x[:, None] * weight[:, None, :] + bias[:, None, :])
    output = (hidden * out[:, None, :]).sum(-1) + shift
    return (output - y).square().mean(1)


# Two stationary points of loss 0.23956: the units are nearly equal, and their outgoing weights cancel.
FAR = torch.tensor(
    [
        -1.1612932188472775,
        1.15795001778419,
        -0.7771800767604354,
        0.7757755407116118,
        -1170.3253242327605,
        -1171.4125527968724,
        0.49573162417326716,
    ],
    dtype=torch.float64,
)
OTHER = torch.tensor(
    [
        -1.1578395893318973,
        1.1614038348051885,
        -0.7757292754395894,
        0.7772266759345913,
        1098.798629709113,
        1097.7114008345977,
        0.4957319379474978,
    ],
    dtype=torch.float64,
)


def test_minima_far_out_are_joined_by_a_low_path():
    """Weights of 1100, of opposite signs at the two ends: the line passes 0.5, and the route is within 1 % of
    the barrier above 0.4207, the lowest pass known, where one unit is switched off."""
    objective = from_function(tanh_regression, 7)
    route, effort = ridged_route(objective, FAR, OTHER, PathSettings(), 0)
    assert route is not None
    assert torch.equal(route.points[0], FAR) and torch.equal(route.points[-1], OTHER)
    assert float(tanh_regression(0.5 * (FAR + OTHER)[None])) > 0.5
    assert 0.42069 < route.profile.maximum < 0.4225
    assert effort.gradients + effort.products < 30_000


def test_a_search_whose_coordinates_fit_no_path_ends_at_once():
    """A relaxed path above the loss at zero shows that linear coordinates do not fit both ends: the search
    ends before it follows a peak, where it would have spent 20,000 gradients."""
    objective = from_function(tanh_regression, 7)
    near = torch.tensor([3.84, 5.58, 7.98, -15.66, -0.85, 0.69, 1.18], dtype=torch.float64)
    zero = float(tanh_regression(torch.zeros(1, 7, dtype=torch.float64)))
    search = RouteSearch(objective, near, FAR, RouteSettings(too_high=zero), 0)
    search.run()
    assert search.ended == "too high"
    assert search.loss.rows < 3_000


def test_a_path_that_cannot_reach_its_route_is_given_up():
    """A route of 400 points in a curved valley is lower than any path of 19: few epochs are spent on that."""
    objective = from_function(
        lambda x: (x[:, 0] ** 2 - 1) ** 2 + 400 * (x[:, 1] - 1 + x[:, 0] ** 2) ** 2, 2
    )
    x = torch.linspace(-1, 1, 400, dtype=torch.float64)
    solver = PathSolver(objective, PathSettings(start="saddles"))
    state = solver.begin(torch.stack([x, 1 - x**2], dim=1))
    state = solver.advance(state, 0, until_epoch=2_000)
    assert state.best_epoch == 0
    assert state.epoch < 300


@pytest.mark.slow
def test_ten_pairs_without_a_ridge_end_near_the_lowest_known_passes():
    """Six or more of ten heights between minima with weights of up to 1,700 and others are within 4 % of the
    passes that the known saddles with a ridge of 1e-3 become as it vanishes, and none is 40 % above.

    Before, six of ten stood 30 to 64 % above. None says CONVERGED, since nothing has proved the passes.
    """
    lowest = [0.4262, 0.4262, 0.5414, 0.4198, 0.4207, 0.4207, 0.4207, 0.4262, 0.4262, 0.4207]
    excess = []
    for case, known in zip(unregularised(10), lowest, strict=True):
        path = optimize_path(case.objective, case.start, case.end)
        assert path.outcome is not Outcome.CONVERGED
        excess.append(path.profile.maximum / known - 1)
    assert min(excess) > -1e-3 and max(excess) < 0.4
    assert sum(share < 0.04 for share in excess) >= 6


def test_the_ridge_is_part_of_losses_gradients_and_products():
    """They are those of the sum, differentiated by PyTorch."""
    draw = torch.Generator().manual_seed(1)
    points = torch.randn(3, 7, generator=draw, dtype=torch.float64)
    vectors = torch.randn(3, 7, generator=draw, dtype=torch.float64)
    ridged = WithWeightDecay(from_function(tanh_regression, 7), 0.3)
    whole = from_function(lambda x: tanh_regression(x) + 0.15 * x.square().sum(1), 7)
    for ours, theirs in zip(
        ridged.full_gradients(points), whole.full_gradients(points), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(ridged.losses(points), whole.losses(points))
    torch.testing.assert_close(
        ridged.hessian_vector_products(points, vectors),
        whole.hessian_vector_products(points, vectors),
    )


def test_no_ridge_is_tried_where_it_leads_uphill():
    """Where the loss at zero is not above both ends, nothing is spent."""
    objective = from_function(
        lambda x: (x.square().sum(1) - 1) ** 2 - 3 * (-x.square().sum(1)).exp()
    )
    ends = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    route, effort = ridged_route(objective, *ends, PathSettings(), 0)
    assert route is None and effort.gradients == effort.products == 0


def test_ends_of_one_valley_meet_under_the_ridge():
    """Along x y = 1 the loss is zero: both ends descend to one point, and the path has no barrier."""
    objective = from_function(lambda x: (x[:, 0] * x[:, 1] - 1) ** 2, 2)
    ends = torch.tensor([[10.0, 0.1], [0.1, 10.0]], dtype=torch.float64)
    route, _ = ridged_route(objective, *ends, PathSettings(), 0)
    assert route is not None
    assert torch.equal(route.points[[0, -1]], ends)
    assert route.profile.maximum < 0.1  # a part of the depth of 1; the straight line reaches 600
