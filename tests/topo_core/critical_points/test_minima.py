"""Polish and verdict: points that try to pass for minima, and minima that must be recognised."""

import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from topo_core.critical_points.classification import ClassifySettings, classify_point
from topo_core.critical_points.minima import (
    advance_polish,
    init_polish,
    polish_minimum,
    polish_result,
)
from topo_core.critical_points.polish_state import PolishSettings, PolishState
from topo_core.critical_points.verdicts import Verdict
from topo_core.objectives.protocol import from_function
from topo_core.random_streams import generator


def row(*values):
    return torch.tensor(values, dtype=torch.float64)


def monkey(points):
    """x³ − 3xy²: at the origin the Hessian is zero, and the loss falls in three directions."""
    x, y = points[:, 0], points[:, 1]
    return x**3 - 3 * x * y**2


def quadratic(*curvatures):
    scales = row(*curvatures)
    return lambda points: 0.5 * (scales * points.square()).sum(1)


def parabola_valley(points):
    """(x² − 1)² + 4 (y − 1 + x²)²: minima at (±1, 0), a pass of height 1 at (0, 1)."""
    x, y = points[:, 0], points[:, 1]
    return (x**2 - 1) ** 2 + 4 * (y - 1 + x**2) ** 2


IMPOSTORS = {
    "monkey saddle": (monkey, (0.0, 0.0), Verdict.SADDLE),
    "index 3 in 60 dimensions": (
        quadratic(-1, -1, -2, *[k + 1 for k in range(57)]),
        (0.0,) * 60,
        Verdict.SADDLE,
    ),
    "x^3 beside a parabola": (lambda p: p[:, 0] ** 2 + p[:, 1] ** 3, (0.0, 0.0), Verdict.SADDLE),
    "fourth power": (lambda p: p[:, 0] ** 4, (0.0,), Verdict.FLAT),
    "valley of constant loss": (lambda p: (p.square().sum(1) - 1) ** 2, (1.0, 0.0), Verdict.FLAT),
    "fold of an absolute value": (lambda p: p[:, 0].abs() + p[:, 1] ** 2, (0.0, 0.0), Verdict.KINK),
    "tip of a cone": (lambda p: p.square().sum(1).sqrt(), (1e-13, 0.0), Verdict.KINK),
    "one-sided slope": (lambda p: torch.relu(p[:, 0]) + p[:, 0] ** 2, (0.0,), Verdict.KINK),
    "tail of an exponential": (lambda p: torch.exp(-p[:, 0]), (25.0,), Verdict.UNBOUNDED),
    "slope without an end": (lambda p: -p[:, 0], (1.0,), Verdict.UNBOUNDED),
    "slope of a parabola": (lambda p: (p**2).sum(1), (1e-3, 0.0), Verdict.NOT_STATIONARY),
    "logarithm of a negative number": (lambda p: p[:, 0].log(), (-1.0,), Verdict.NOT_FINITE),
    "top of a hill": (lambda p: -(p**2).sum(1), (0.0, 0.0), Verdict.SADDLE),
}


@pytest.mark.parametrize("name", IMPOSTORS)
def test_no_other_point_is_called_a_minimum(name):
    """Each is named for what it is, at the very point."""
    function, point, verdict = IMPOSTORS[name]
    found = classify_point(from_function(function), row(*point))
    assert found.verdict is verdict
    assert verdict.value in str(found)


@pytest.mark.parametrize(
    ("function", "start", "verdict"),
    [
        (lambda p: p[:, 0] ** 4, (0.3,), Verdict.FLAT),
        (lambda p: p[:, 0] ** 2 + p[:, 1] ** 4, (0.3, 0.4), Verdict.FLAT),
        (lambda p: torch.exp(-p[:, 0]) + p[:, 1] ** 2, (0.0, 1.0), Verdict.UNBOUNDED),
        (lambda p: -(p[:, 0] ** 2), (0.1,), Verdict.UNBOUNDED),
        (lambda p: p[:, 0].abs() + p[:, 1] ** 2, (0.3, 1.0), Verdict.KINK),
        (lambda p: monkey(p) + p.square().sum(1) ** 2, (0.0, 0.0), Verdict.MINIMUM),
        (parabola_valley, (0.0, 1.0), Verdict.MINIMUM),
    ],
)
def test_a_polish_ends_at_what_it_says(function, start, verdict):
    """A descent reports degenerate and missing minima, and leaves saddles for a minimum."""
    found = polish_minimum(from_function(function), row(*start))
    assert found.verdict is verdict


def test_a_saddle_says_its_index_and_a_way_down():
    """Three negative curvatures, two of them equal, are counted by Lanczos in 600 dimensions."""
    function = quadratic(-1, -1, -2, *[1 + k / 20 for k in range(597)])
    found = classify_point(from_function(function), torch.zeros(600, dtype=torch.float64))
    assert (found.verdict, found.index, found.index_is_exact) == (Verdict.SADDLE, 3, True)
    below = 0.1 * found.direction[None]
    assert float(function(below)) < -0.005


def test_an_unsettled_index_is_a_lower_bound():
    """More negative curvatures than are looked for: at least so many, and no claim beyond."""
    function = quadratic(*[-1.0 - k for k in range(20)], *[1.0] * 580)
    found = classify_point(from_function(function), torch.zeros(600, dtype=torch.float64))
    assert found.index == 8 and not found.index_is_exact and "index ≥ 8" in str(found)


def test_symmetries_explain_zero_modes():
    """In a round valley in space two directions have no curvature, and rotations explain both."""
    objective = from_function(lambda p: (p.square().sum(1) - 1) ** 2)
    point = row(0.6, 0.8, 0.0)
    turns = torch.stack([row(-0.8, 0.6, 0.0), row(0.0, 0.0, 1.0), row(0.0, 0.0, 1.0)])
    assert classify_point(objective, point).symmetry_modes == 0
    found = classify_point(objective, point, symmetries=lambda point: {"rotations": turns})
    assert (found.verdict, found.zero_modes, found.symmetry_modes) == (Verdict.FLAT, 2, 2)
    assert "2 directions without curvature: 2 explained by rotations, 0 unexplained" in str(found)


def test_what_symmetries_do_not_explain_is_counted():
    """A direction that is no symmetry explains nothing, and a zero mode without a symmetry is left over."""
    objective = from_function(lambda p: (p[:, :2].square().sum(1) - 1) ** 2 + p[:, 2] ** 4)
    around, radial = row(-0.8, 0.6, 0.0), row(0.6, 0.8, 0.0)
    found = classify_point(
        objective,
        row(0.6, 0.8, 0.0),
        symmetries=lambda point: {"turns": around[None], "growth": radial[None]},
    )
    assert found.explained_modes == {"turns": 1}
    assert "2 directions without curvature: 1 explained by turns, 1 unexplained" in str(found)


@pytest.mark.parametrize("dimension", [40, 700])
def test_parameters_without_influence_are_named(dimension):
    """The loss does not depend on 20 of them: the others are settled beyond them, also by Lanczos."""
    objective = from_function(lambda p: (p[:, 20:] - 1).square().sum(1))
    found = classify_point(objective, torch.ones(dimension, dtype=torch.float64))
    assert found.verdict is Verdict.FLAT and found.zero_modes == 20
    assert found.explained_modes == {"parameters without influence on the loss": 20}
    assert found.eigenvalues[0] == pytest.approx(2.0) and found.index_is_exact


def test_a_kink_says_its_jump_and_whether_it_is_stationary():
    """|x| + y²: the jump is 2; at y = 0 zero lies between the slopes, at y = 0.1 it does not."""
    objective = from_function(lambda p: p[:, 0].abs() + p[:, 1] ** 2)
    found = classify_point(objective, row(0.0, 0.0))
    assert found.jump == pytest.approx(2, rel=1e-6) and found.smallest_subgradient < 1e-6
    assert classify_point(objective, row(0.0, 0.1)).smallest_subgradient == pytest.approx(0.2)


@given(st.floats(-8, 8), st.floats(-6, 6), st.integers(0, 1), st.floats(0, 6.3), st.floats(-3, 6))
@settings(max_examples=40, deadline=None)
def test_verdicts_do_not_depend_on_units(scale, shift, swap, angle, stretch):
    """A·L + b, permuted, turned and rescaled coordinates: the same minimum, and the same verdict."""
    a, b, c = 10.0**scale, 10.0**shift, 10.0**stretch
    turn = row(math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)).reshape(2, 2)
    if swap:
        turn = turn.flip(0)
    objective = from_function(lambda p: a * parabola_valley(p / c @ turn.T) + b)
    found = polish_minimum(objective, c * (turn.T @ row(0.1, 0.4)))
    assert found.verdict is Verdict.MINIMUM
    assert (turn @ found.point / c).abs().tolist() == pytest.approx([1, 0], abs=1e-7)
    saddle = classify_point(objective, c * (turn.T @ row(0.0, 1.0)))
    assert (saddle.verdict, saddle.index) == (Verdict.SADDLE, 1)


@pytest.mark.parametrize("every", [1, 7])
def test_a_resumed_polish_gives_the_same_bits(every):
    """Through JSON after every few iterations: point, loss, counts and verdict as in one run."""
    objective = from_function(
        lambda p: (100 * (p[:, 1:] - p[:, :-1] ** 2) ** 2 + (1 - p[:, :-1]) ** 2).sum(1)
    )
    start = torch.randn(12, generator=generator("rosenbrock"), dtype=torch.float64)
    whole = polish_minimum(objective, start)
    state = init_polish(objective, start)
    while not state.done:
        state = advance_polish(objective, state, iterations=every)
        scalars = json.loads(json.dumps(state.scalars()))
        tensors = {name: rows.clone() for name, rows in state.tensors().items()}
        state = PolishState.restore(tensors, scalars)
    found = polish_result(objective, state)
    assert torch.equal(found.point, whole.point)
    assert (found.loss, found.gradients, found.products) == (
        whole.loss,
        whole.gradients,
        whole.products,
    )
    assert found.verdict is whole.verdict is Verdict.MINIMUM


@pytest.mark.parametrize(("dimension", "phase"), [(300, "newton"), (6000, "lbfgs")])
def test_larger_losses_get_more_iterations_of_lbfgs(dimension, phase):
    """After 1,000 iterations a small loss goes on with Newton's method, one of 6,000 parameters with
    L-BFGS; a number that is given counts in every dimension."""
    scales = torch.logspace(0, 4, dimension, dtype=torch.float64)
    objective = from_function(lambda points: (scales * points.square()).sum(1))
    start = init_polish(objective, torch.ones(dimension, dtype=torch.float64))
    late = replace(start, iteration=1000)
    assert advance_polish(objective, late, iterations=1).phase == phase
    given = PolishSettings(lbfgs=7)
    assert (
        advance_polish(objective, replace(start, iteration=6), given, iterations=1).phase == "lbfgs"
    )
    assert (
        advance_polish(objective, replace(start, iteration=7), given, iterations=1).phase
        == "newton"
    )


def test_what_was_not_finished_is_not_a_minimum():
    """Out of iterations, the point says that it is not stationary and what is left."""
    settings = PolishSettings(lbfgs=3, newton=0)
    found = polish_minimum(from_function(parabola_valley), row(0.3, 0.4), settings)
    assert found.verdict is Verdict.NOT_STATIONARY
    assert found.gradient_norm > found.tolerance > 0


def test_float32_has_its_own_tolerance():
    """In float32 a minimum is one to the digits that its gradients have."""
    found = polish_minimum(from_function(parabola_valley), row(0.3, 0.4).float())
    assert found.verdict is Verdict.MINIMUM and found.point.dtype == torch.float32
    assert found.point.abs().tolist() == pytest.approx([1, 0], abs=1e-4)


def test_a_loss_that_stops_being_finite_ends_the_polish():
    """Steps into NaN are shortened; a start in NaN is reported."""
    hole = from_function(lambda p: (p[:, 0] - 3) ** 2 + 0 * (2.5 - p[:, 0]).sqrt())
    assert polish_minimum(hole, row(0.0)).verdict is not Verdict.MINIMUM
    assert polish_minimum(hole, row(2.9)).verdict is Verdict.NOT_FINITE


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClassifySettings(tolerance=0.0), "tolerance is 0.0"),
        (lambda: PolishSettings(memory=0), "memory is 0"),
    ],
)
def test_settings_are_checked(make, message):
    """One sentence names the key and what is allowed."""
    with pytest.raises(ValueError, match=message):
        make()


EDGES = {
    "root": (lambda x: x.sqrt(), 0.3, {Verdict.KINK}),
    "logarithm": (lambda x: x.log(), 0.3, {Verdict.KINK, Verdict.UNBOUNDED}),
    "arc": (lambda x: -x.acos(), 0.5, {Verdict.KINK}),
    "x^1.5": (lambda x: x**1.5, 0.2, {Verdict.KINK}),
    "-x^1.5": (lambda x: -(x**1.5), 0.0, {Verdict.KINK}),
    "infinite slope": (lambda x: x.sqrt(), 0.0, {Verdict.NOT_FINITE}),
    "outside": (lambda x: x.log(), -1.0, {Verdict.NOT_FINITE}),
    "pole": (lambda x: -1 / x**2, 0.5, {Verdict.KINK, Verdict.UNBOUNDED}),
    "barrier": (lambda x: x - x.log(), 0.3, {Verdict.MINIMUM}),
    "inside": (lambda x: x * x.log(), 0.9, {Verdict.MINIMUM}),
}


@pytest.mark.parametrize("name", EDGES)
def test_at_the_edge_of_its_domain_a_loss_has_no_minimum_in_silence(name):
    """A polish that runs into an edge, a pole or a jump says so: no error, and no false minimum or saddle."""
    function, start, verdicts = EDGES[name]
    objective = from_function(lambda p: function(p[:, 0]) + (p[:, 1:] - 0.1).square().sum(1), 3)
    found = polish_minimum(objective, torch.tensor([start, 0.3, 0.5], dtype=torch.float64))
    assert found.verdict in verdicts


def test_a_ridge_of_infinite_curvature_is_left():
    """The second derivative of −|x|^1.5 at 0 is infinite; a difference of gradients shows its sign."""
    objective = from_function(lambda p: -(p[:, 0].abs() ** 1.5) + p.square().sum(1), 2)
    found = polish_minimum(objective, torch.tensor([0.0, 0.5], dtype=torch.float64))
    assert found.verdict is Verdict.MINIMUM
    assert found.loss == pytest.approx(-27 / 256, rel=1e-9)


def test_a_polish_at_a_kink_says_kink():
    """It does not minimise along the kink; the smallest subgradient says how far from zero it ended."""
    objective = from_function(lambda p: p[:, 0].abs() + (p[:, 1] - 2) ** 2, 2)
    found = polish_minimum(objective, torch.tensor([0.7, 0.5], dtype=torch.float64))
    assert found.verdict is Verdict.KINK
    along = abs(2 * (float(found.point[1]) - 2))
    assert found.smallest_subgradient == pytest.approx(along, rel=1e-3, abs=1e-9)


def test_beside_a_jump_there_is_no_minimum():
    """Gradient and curvature are those of a minimum, and the loss is lower by 1 a tiny distance away."""
    objective = from_function(lambda p: p.square().sum(1) - (p[:, 0] <= 0).to(p), 2)
    point = torch.tensor([1e-15, 0.0], dtype=torch.float64)
    found = classify_point(objective, point)
    assert found.verdict is Verdict.KINK and found.jump == pytest.approx(1.0)
