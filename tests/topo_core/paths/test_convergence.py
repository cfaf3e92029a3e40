"""What CONVERGED means: a claim about the path that is returned, and the same under changes of scale."""

import math

import pytest
import torch

from topo_core.objectives.protocol import from_function
from topo_core.paths.convergence import Outcome
from topo_core.paths.insertion_settings import Insertion
from topo_core.paths.optimize import optimize_path
from topo_core.paths.polyline import line
from topo_core.paths.profiles import loss_profile
from topo_core.paths.schedules import Schedule
from topo_core.paths.settings import PathSettings
from topo_core.paths.solver import PathSolver
from topo_core.paths.stationarity import peak_force
from topo_core.paths.update_settings import OptimizerSettings
from topo_core.reference_landscapes.surfaces import muller_brown

ENDS = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)


def bent(points):
    """A curved valley y = 1 - x² between (-1, 0) and (1, 0); its pass is at (0, 1) and 1 high."""
    x, y = points[:, 0], points[:, 1]
    return (x**2 - 1) ** 2 + 4 * (y - 1 + x**2) ** 2


def momentum(rate):
    return PathSettings(
        start="line",
        epochs=200,
        schedule=Schedule("constant"),
        optimizer=OptimizerSettings("momentum", lr=rate),
    )


@pytest.mark.parametrize("rate", [0.05, 0.08])
def test_a_path_that_diverges_is_not_converged(rate):
    """The lowest height so far never rises, which is no evidence: outcome and reason say what happened."""
    path = optimize_path(from_function(bent), *ENDS, momentum(rate))
    assert path.history[-1].dense_maximum > 1e3
    assert path.outcome is Outcome.STALLED
    assert path.evidence.remaining_fall >= path.profile.maximum - 1.0
    assert "lower the learning rate" in path.evidence.reason


class Batches:
    """A loss with two minibatches, whose gradient over the whole training set is not known."""

    dimension, batches = 2, 2

    def __init__(self):
        self.inner = from_function(bent)
        self.losses, self.gradients = self.inner.losses, self.inner.gradients


def test_a_path_that_diverges_on_minibatches_is_not_converged():
    """Without a force at the highest point, a path that has left its lowest state proves nothing about it."""
    settings = PathSettings(
        start="line",
        epochs=100,
        schedule=Schedule("constant"),
        optimizer=OptimizerSettings("momentum", lr=0.05),
    )
    path = optimize_path(Batches(), *ENDS, settings)
    assert path.history[-1].dense_maximum > 1e3 > path.profile.maximum
    assert path.outcome in (Outcome.STALLED, Outcome.BUDGET)
    assert path.evidence.remaining_fall > path.evidence.allowed_fall


def test_a_path_whose_steps_are_cut_has_stalled():
    """Where displacements are cut until the run ends, the path is far above its pass and not converged."""
    settings = PathSettings(start="line", max_move=1e-7, epochs=120)
    path = optimize_path(from_function(bent), *ENDS, settings)
    assert path.profile.maximum > 1.5
    assert path.outcome is not Outcome.CONVERGED
    assert path.evidence.remaining_fall > path.evidence.allowed_fall


def test_a_vanishing_rate_has_stalled():
    """A rate that has decayed to nothing looks level; the force at the highest point shows that it is not."""
    settings = PathSettings(
        start="line",
        epochs=100,
        optimizer=OptimizerSettings("sgd", lr=1e-12),
        schedule=Schedule("constant"),
    )
    path = optimize_path(from_function(bent), *ENDS, settings)
    assert path.outcome is Outcome.STALLED
    assert path.evidence.peak_force > 1.0


def test_a_polygon_that_cuts_corners_has_not_converged():
    """Stationary points on the valley floor, and a chord between them that climbs its side."""
    settings = PathSettings(points=3, start="line", redistribute_every=0)
    path = optimize_path(from_function(lambda p: bent(p) + p[:, 0]), *ENDS, settings)
    fine = optimize_path(from_function(lambda p: bent(p) + p[:, 0]), *ENDS, PathSettings())
    assert path.profile.maximum > 1.05 * fine.profile.maximum
    assert path.outcome is not Outcome.CONVERGED
    assert fine.outcome is Outcome.CONVERGED


def test_a_pass_on_a_kink_is_stationary():
    """At the top of a tent over a V-shaped valley no gradient is small, and the force is."""
    objective = from_function(lambda p: 1 - p[:, 0].abs() + 3 * p[:, 1].abs())
    path = optimize_path(objective, *ENDS, PathSettings(start="line"))
    assert path.outcome is Outcome.CONVERGED
    assert path.profile.maximum == pytest.approx(1.0, abs=1e-4)


def test_the_force_is_the_gradient_across_the_path():
    """On a straight line through a slope the force is the gradient without its part along the line."""
    objective = from_function(lambda p: 1 - p[:, 0] ** 2 + 0.3 * p[:, 1])
    points = line(*ENDS, 5)
    force = peak_force(objective, points, loss_profile(objective, points))
    assert force.norm == pytest.approx(0.3)
    assert force.fall == pytest.approx(0.5 * 0.3 * 2.0)
    assert force.gradient_evaluations == 4


@pytest.mark.parametrize(("scale", "shift"), [(0.01, 1e4), (1e6, 0.0), (1.0, -50.0), (1e-9, 1.0)])
def test_the_loss_may_be_scaled_and_shifted(scale, shift):
    """L → aL + b changes no point of the path, and heights as the loss."""
    plain = optimize_path(from_function(bent), *ENDS, PathSettings(start="line"))
    other = optimize_path(
        from_function(lambda p: scale * bent(p) + shift), *ENDS, PathSettings(start="line")
    )
    # Beside a shift the loss has fewer digits left.
    digits = max(1e-6, 1e-14 * abs(shift) / scale)
    height = (other.profile.maximum - shift) / scale
    assert height == pytest.approx(1.0, abs=1e-4 + digits)
    assert plain.outcome is other.outcome is Outcome.CONVERGED


@pytest.mark.parametrize("start", ["line", "auto"])
def test_coordinates_may_be_turned_permuted_and_scaled_together(start):
    """An orthogonal map, a permutation, and one factor for all coordinates leave the height as it is."""
    landscape = muller_brown()
    ends = landscape.minima[:2]
    angle = 0.7
    turn = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]],
        dtype=torch.float64,
    )
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    plain = optimize_path(landscape.objective, *ends, PathSettings(start=start))
    # A search for saddles has its budget: below the verified pass of auto it may be incomplete.
    outcomes = {Outcome.CONVERGED} if start == "line" else {Outcome.CONVERGED, Outcome.BUDGET}
    assert plain.outcome in outcomes
    for to in (turn, swap, 1e3 * torch.eye(2, dtype=torch.float64)):
        back = torch.linalg.inv(to)
        moved = from_function(lambda p, back=back: landscape.objective.function(p @ back.T))
        path = optimize_path(moved, *(ends @ to.T), PathSettings(start=start))
        assert path.outcome in outcomes
        assert path.profile.maximum == pytest.approx(plain.profile.maximum, abs=0.01)


def test_without_a_step_nothing_is_known_of_a_further_fall():
    """Zero epochs say so, instead of a number for a fall."""
    path = optimize_path(from_function(bent), *ENDS, PathSettings(start="line", epochs=0))
    assert path.outcome is Outcome.BUDGET
    assert "no step was taken" in path.evidence.reason


def test_one_path_without_a_finite_loss_harms_no_start():
    """If some of the curved starts meet NaN, the search continues with the others."""

    def hole(points):
        square = (points**2).sum(1)
        value = (square - 1) ** 2 + 0.1 * (1 + points[:, 0])
        return torch.where(square < 0.25, torch.nan, value)

    ends = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    path = optimize_path(from_function(hole), *ends, PathSettings(start="routes", epochs=400))
    assert path.profile.maximum < 0.25


def test_gradients_of_the_objective_are_not_written_to():
    """A function whose gradient is an expanded view is optimised like any other."""
    objective = from_function(lambda p: p.sum(1), 2)
    path = optimize_path(objective, *ENDS, PathSettings(epochs=5))
    assert math.isfinite(path.profile.maximum)


@pytest.mark.parametrize(
    "ends",
    [torch.tensor([[-1, 0], [1, 0]]), ENDS.clone().requires_grad_(True)],
    ids=["whole numbers", "with a history"],
)
def test_ends_may_be_whole_numbers_or_require_gradients(ends):
    """Both are points like any other; whole numbers are taken as float64."""
    path = optimize_path(from_function(bent), *ends, PathSettings(start="line"))
    assert path.points.dtype == torch.float64 and not path.points.requires_grad
    assert path.profile.maximum == pytest.approx(1.0, abs=1e-3)


def test_points_that_coincide_with_the_end_are_dropped():
    """However many there are, no segment of length zero is left."""
    points = torch.cat([line(*ENDS, 4), ENDS[1:], ENDS[1:], ENDS[1:]])
    state = PathSolver(from_function(bent), PathSettings(start="line")).begin(points)
    assert torch.equal(state.points, line(*ENDS, 4)) and state.merged == 3


def test_the_letter_of_algorithm_3_keeps_the_number_of_moving_points():
    """``ends: paper`` freezes one end point for each point inserted, also where one segment alone is long."""
    settings = PathSettings(
        start="line",
        force="paper",
        epochs=60,
        optimizer=OptimizerSettings("sgd", lr=0.01),
        insertion=Insertion(every=2, criterion="distance", threshold=1.2, ends="paper"),
    )
    solver = PathSolver(from_function(bent), settings)
    state = solver.begin(line(*ENDS, 19))
    numbers = set()
    for epoch in range(1, 61):
        state = solver.advance(state, 0, until_epoch=epoch)
        numbers.add(len(state.points) - 2 - 2 * state.frozen)
    assert state.frozen > 0 and numbers <= {17, 18}


def test_a_fixed_grid_gives_no_error():
    """``heights: paper`` evaluates fixed points, so the loss between them has no bound."""
    profile = loss_profile(from_function(bent), line(*ENDS, 5), heights="paper")
    assert math.isinf(profile.bracket)


def ring(points):
    """Zero on the unit circle, with a hill of height 1 inside."""
    return (points.square().sum(1) - 1) ** 2


@pytest.mark.parametrize("start", ["line", "bezier", "auto"])
@pytest.mark.parametrize("dimension", [2, 5])
def test_a_path_held_on_a_ridge_by_symmetry_has_not_converged(start, dimension):
    """At the top of a hill the gradient is zero and moves nothing; a path round it has height 0."""
    ends = torch.eye(dimension, dtype=torch.float64)[0] * torch.tensor([[-1.0], [1.0]])
    path = optimize_path(from_function(ring), *ends, PathSettings(start=start))
    assert path.profile.maximum < 0.01 or path.outcome is not Outcome.CONVERGED
    if path.outcome is Outcome.STALLED and path.profile.maximum > 0.9:
        assert "on a ridge" in path.evidence.reason
        assert path.evidence.remaining_fall > 0.5


def test_a_pole_on_the_path_has_not_converged():
    """Between samples −log r² is infinite; the curvature across the path is negative."""
    objective = from_function(lambda p: -p.square().sum(1).log())
    path = optimize_path(objective, *ENDS, PathSettings(start="bezier"))
    assert path.outcome is not Outcome.CONVERGED


@pytest.mark.parametrize(
    "function",
    [
        lambda p: (p[:, 0].detach() ** 2 - 1) ** 2 + 4 * (p[:, 1] - 1 + p[:, 0] ** 2) ** 2,
        lambda p: (p[:, 1].detach().abs() < 0.3) * (1 - p[:, 0].detach() ** 2) ** 2 + 0 * p[:, 0],
        lambda p: (10 * bent(p)).round() + 0 * p[:, 0],
    ],
    ids=["a part of the graph is cut", "gradients are zero", "constant in pieces"],
)
@pytest.mark.parametrize("start", ["line", "auto"])
def test_gradients_of_another_function_prove_nothing(function, start):
    """Where the gradient is not that of the loss, a small force is no evidence, and the outcome says why."""
    path = optimize_path(from_function(function), *ENDS, PathSettings(start=start))
    assert path.outcome is not Outcome.CONVERGED
    assert "gradients do not fit the loss" in path.evidence.reason
