"""The start ``saddles``: the lowest pass where gradients are exact, and what it says of itself."""

import json

import pytest
import torch

from topo_core.critical_points.minima import polish_minimum
from topo_core.critical_points.verdicts import CriticalPoint, Verdict
from topo_core.objectives.protocol import from_function
from topo_core.paths.convergence import Outcome
from topo_core.paths.optimize import optimize_path
from topo_core.paths.profiles import loss_profile
from topo_core.paths.settings import PathSettings
from topo_core.paths.solver import PathSolver
from topo_core.paths.starts.initial_paths import find_start
from topo_core.paths.starts.route_settings import Effort
from topo_core.paths.starts.saddle_start import verified_pass
from topo_core.paths.starts.spliced_paths import SaddleTrails, spliced
from topo_core.paths.state import PathState
from topo_core.paths.verified_pass import VerifiedPass
from topo_core.reference_landscapes.surfaces import (
    embedded,
    gaussians,
    himmelblau,
    muller_brown,
    ring_valley,
)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def bent(points):
    """Two minima at (-1, 0) and (1, 0), a curved valley between them, and a pass of loss 1."""
    x, y = points[:, 0], points[:, 1]
    return (x**2 - 1) ** 2 + 4 * (y - 1 + x**2) ** 2


ENDS = tensor([[-1.0, 0.0], [1.0, 0.0]])


def tanh_regression(points):
    """One input, two tanh units, one output; 101 points of a curve; squared error and a ridge of 1e-3."""
    x = torch.linspace(-torch.pi, torch.pi, 101, dtype=torch.float64)
    y = -0.31 * x.sin() + 0.72 * (2 * x).sin() - 0.21 * x.cos() + 0.89 * (2 * x).cos()
    weight, bias, out, shift = points.split([2, 2, 2, 1], dim=1)
    hidden = torch.tanh(x[:, None] * weight[:, None, :] + bias[:, None, :])
    output = (hidden * out[:, None, :]).sum(-1) + shift
    return (output - y).square().mean(1) + 0.5e-3 * points.square().sum(1)


# Two minima of this loss and the lowest saddle out of the second, from an exhaustive search of all its
# critical points by another code.
LOWEST = [0.75139833, 1.85979668, 0.65568436, 1.11118739, -4.39112678, 3.22556061, 0.58439456]
SECOND = [2.27260011, 1.95750286, 4.79324997, -6.04117990, -0.91227587, 1.23883408, 1.76729595]
PASS = 0.44294540


@pytest.mark.parametrize(
    ("landscape", "pair"),
    [(muller_brown, (0, 1)), (muller_brown, (0, 2)), (himmelblau, (1, 3)), (ring_valley, (0, 2))],
)
def test_the_pass_is_a_verified_saddle(landscape, pair):
    """The height is the loss of the true pass to rounding, and the evidence names the proved saddle.

    CONVERGED is said only where no lower saddle is known beside the higher end; else more may be found.
    """
    known = landscape()
    path = optimize_path(known.objective, *known.minima[list(pair)])
    assert path.profile.maximum == pytest.approx(known.passes[pair], rel=1e-5)
    assert path.outcome in (Outcome.CONVERGED, Outcome.BUDGET)
    assert "saddle of index 1" in path.evidence.reason
    assert path.gradient_evaluations < 15_000


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e3])
@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_the_engine_follows_a_shift_and_a_scale_of_the_loss(scale, shift):
    """L → aL + b moves the height with it; the 0.01 of barrier above 10⁴ is not lost in rounding."""
    path = optimize_path(from_function(lambda x: scale * bent(x) + shift), *ENDS)
    assert path.profile.maximum == pytest.approx(scale + shift, abs=1e-3 * scale)
    assert path.outcome is Outcome.CONVERGED


@pytest.mark.parametrize("stretch", [(1e3, 1.0), (1.0, 1e-3), (1e-2, 1e2)])
def test_the_engine_follows_rescaled_coordinates(stretch):
    """Badly scaled parameters cost no more gradients, and give the same height."""
    plain = optimize_path(from_function(bent), *ENDS)
    scale = tensor(stretch)
    path = optimize_path(from_function(lambda x: bent(x / scale)), *(ENDS * scale))
    assert path.profile.maximum == pytest.approx(1.0, abs=1e-6)
    assert path.gradient_evaluations < 2 * plain.gradient_evaluations


def test_the_engine_follows_a_rotation_and_a_permutation():
    """In rotated coordinates, or with exchanged ones, the height is the same."""
    turn = torch.linalg.qr(torch.randn(2, 2, generator=torch.Generator().manual_seed(3)).double()).Q
    for matrix in (turn, tensor([[0.0, 1.0], [1.0, 0.0]])):
        path = optimize_path(from_function(lambda x, m=matrix: bent(x @ m)), *(ENDS @ matrix.mT))
        assert path.profile.maximum == pytest.approx(1.0, abs=1e-6)


def test_the_pass_of_a_small_network():
    """The lowest pass out of a minimum of the seven-parameter network, to rounding, and it is known to be.

    The engine before stopped 3 % of the barrier above it after 128,697 gradients, and said CONVERGED.
    """
    objective = from_function(tanh_regression)
    path = optimize_path(objective, tensor(SECOND), tensor(LOWEST))
    assert path.profile.maximum == pytest.approx(PASS, abs=1e-7)
    assert path.outcome is Outcome.CONVERGED
    assert path.gradient_evaluations < 10_000


def xor_of_three_units(points):
    """A 2-3-2 tanh network, cross entropy on XOR, ridge 10⁻²: losses [k] of ``points`` [k, 17]."""
    inputs = tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]).to(points)
    first, bias, second, last = points.split([6, 3, 6, 2], dim=1)
    units = torch.tanh(inputs @ first.reshape(-1, 3, 2).transpose(1, 2) + bias[:, None])
    outputs = units @ second.reshape(-1, 2, 3).transpose(1, 2) + last[:, None]
    chances = torch.log_softmax(outputs, 2)[:, [0, 1, 2, 3], [0, 1, 1, 0]]
    return 0.005 * points.square().sum(1) - chances.mean(1)


def test_copies_of_the_higher_end_do_not_leave_the_search_open():
    """Below the lowest pass the higher end is joined with a copy of itself and with nothing lower. The search
    from both copies found no lower pass, so the path, which is exact, says CONVERGED."""
    one = [1.72, 1.12, -1.77, -2.15, 1.11, -1.43, -2.08, 0.76, -0.96]
    one += [1.87, 1.98, -1.26, -1.87, -1.98, 1.26, 0.81, -0.81]
    other = [2.1, -1.58, -1.23, -1.23, 1.58, -2.1, 0.73, -0.01, -0.73]
    other += [1.86, 1.23, -1.86, -1.86, -1.23, 1.86, -0.75, 0.75]
    objective = from_function(xor_of_three_units, 17)
    ends = [polish_minimum(objective, tensor(end)).point for end in (one, other)]
    path = optimize_path(objective, *ends)
    assert path.profile.maximum == pytest.approx(0.29501386, abs=1e-7)
    assert path.outcome is Outcome.CONVERGED
    assert path.gradient_evaluations < 10_000


def test_equal_seeds_give_equal_bits():
    """All draws come from the seed."""
    landscape = gaussians(3)
    ends = landscape.minima[[0, -1]]
    paths = [optimize_path(landscape.objective, *ends, seed=5).points for _ in range(2)]
    assert torch.equal(*paths)


def test_what_was_proved_survives_a_checkpoint():
    """The record of the saddle is in the scalars of the state, and comes back from JSON."""
    objective = from_function(bent)
    solver = PathSolver(objective, PathSettings())
    first = find_start(objective, *ENDS, solver.resolved, 0)
    state = solver.begin(first.points, spent=first.gradient_evaluations, verified=first.verified)
    assert solver.is_finished(state) and isinstance(state.verified, VerifiedPass)
    scalars = json.loads(json.dumps(state.scalars()))
    assert PathState.restore(state.tensors(), scalars).verified == state.verified
    assert state.verified.loss == pytest.approx(1.0)
    assert state.verified.eigenvalues[0] < 0 < state.verified.eigenvalues[1]


def test_a_hole_in_the_loss_is_an_outcome():
    """Where the loss is NaN on the straight line, a path around it results, or it is not CONVERGED."""

    def ring(x):
        square = x.square().sum(1)
        return torch.where(square < 0.25, float("nan"), (square - 1) ** 2 + 0.1 * x[:, 1] ** 2)

    path = optimize_path(from_function(ring), *ENDS)
    assert path.profile.maximum == pytest.approx(0.0975, abs=1e-3) or (
        path.outcome is not Outcome.CONVERGED
    )


def test_a_ridge_by_symmetry_is_left_in_many_dimensions():
    """Where the straight line is a ridge by symmetry, arches lead to the passes on both sides."""
    inner = ring_valley(4)
    outer = embedded(inner.objective, 12, seed=2)
    path = optimize_path(outer, *outer.lift(inner.minima[[0, 2]]))
    assert path.profile.maximum == pytest.approx(inner.passes[0, 2], rel=1e-6)


@pytest.mark.parametrize("high", [False, True])
def test_a_path_is_led_over_a_saddle_only_where_that_is_lower(high):
    """The straight line, of height 5, gets the height of the saddle, though descents end short of minima."""
    objective = from_function(bent)
    x = torch.linspace(0, 0.8, 30, dtype=torch.float64)
    sides = tuple(torch.stack([sign * x, 1 - x**2], 1) for sign in (1, -1))
    lowest = tuple(float(bent(side[-1:])) for side in sides)
    trails = SaddleTrails(sides[0][0], 9.0 if high else 1.0, sides, lowest)
    straight = ENDS[0] + torch.linspace(0, 1, 19, dtype=torch.float64)[:, None] * (
        ENDS[1] - ENDS[0]
    )
    profile = loss_profile(objective, straight)
    path = spliced(objective, straight, profile, [trails], PathSettings())
    assert torch.equal(path.points[[0, -1]], straight[[0, -1]])
    if high:
        assert path.top is None and torch.equal(path.points, straight)
    else:
        assert path.top is trails
        assert path.profile.maximum == pytest.approx(1.0, abs=1e-6)


def test_the_error_of_printed_curvatures_is_their_own():
    """The error of higher eigenvalues, which are looked at less closely, is not that of the two lowest."""
    point = CriticalPoint(
        point=torch.zeros(5, dtype=torch.float64),
        loss=1.0,
        gradient_norm=1e-12,
        tolerance=1e-9,
        verdict=Verdict.SADDLE,
        eigenvalues=(-1.0, 0.5, 2.0, 3.0),
        residuals=(1e-9, 1e-8, 0.7, 0.9),
        largest_curvature=9.0,
        index=1,
        index_is_exact=True,
        zero_modes=0,
        explained_modes={},
        missed=0.0,
        direction=None,
        jump=0.0,
        smallest_subgradient=0.0,
        gradients=1,
        products=1,
    )
    record = verified_pass(point, (0.0, 0.0), Effort(), searched=True)
    assert record is not None and record.error == 1e-8
    assert "-1, 0.5 ± 1e-08" in str(record)
    assert "-1 ± 1e-09" in str(point)


def test_a_first_path_of_many_points_stays_the_best_while_fewer_points_move():
    """A route of 400 points is returned as it is, though 19 points are optimised."""
    x = torch.linspace(-1, 1, 400, dtype=torch.float64)
    route = torch.stack([x, 1 - x**2], 1)
    solver = PathSolver(from_function(bent), PathSettings(epochs=0))
    state = solver.begin(route)
    assert len(state.points) == 19 and torch.equal(state.best, route)
    assert torch.equal(state.points[[0, -1]], ENDS)


def test_a_search_that_proves_nothing_is_never_converged():
    """A kink has no saddle, so the path over it is the lowest in its valley, and more is not said."""
    path = optimize_path(from_function(lambda x: 1 - x[:, 0].abs() + x[:, 1] ** 2), *ENDS)
    assert path.profile.maximum == pytest.approx(1.0, abs=1e-4)
    assert path.verified is None and path.outcome is not Outcome.CONVERGED
