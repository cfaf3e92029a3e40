"""Polishing goes on along kinks, to points that are stationary in Clarke's sense."""

from dataclasses import replace

import pytest
import torch

from tests.helpers.problems import problem_of
from topo_core.critical_points.minima import (
    advance_polish,
    init_polish,
    polish_minimum,
    polish_result,
)
from topo_core.critical_points.polish_state import PolishSettings, PolishState
from topo_core.critical_points.verdicts import Verdict
from topo_core.objectives.protocol import from_function
from workers.problems.evaluation import Evaluation
from workers.problems.loaded_problem import load_problem


def row(*values):
    return torch.tensor(values, dtype=torch.float64)


def valley(points):
    """A bent kink, x = y², along which the loss falls to 0 at (1, 1)."""
    x, y = points.unbind(1)
    return 3 * (x - y**2).abs() + (y - 1) ** 2


@pytest.mark.parametrize("start", [(2.0, 1.7), (-1.0, 0.1)])
def test_the_lowest_point_of_a_kink_is_reached(start):
    """Without the descent along the kink the polish stops on it, higher up."""
    objective = from_function(valley)
    stopped = polish_minimum(objective, row(*start), PolishSettings(kink=0))
    found = polish_minimum(objective, row(*start))
    assert (stopped.verdict, found.verdict) == (Verdict.KINK, Verdict.KINK)
    assert found.loss < 1e-9 < stopped.loss
    assert found.is_clarke_stationary and not stopped.is_clarke_stationary
    assert "stationary in Clarke's sense" in str(found)


def test_a_kink_across_a_slope_is_not_stationary():
    """|x| + y falls along the kink for ever: nothing is called stationary."""
    found = polish_minimum(from_function(lambda p: p[:, 0].abs() + p[:, 1]), row(0.4, 0.3))
    assert not found.is_clarke_stationary


def test_the_descent_resumes_with_the_same_bits():
    """From a state that was stored after every iteration, as from one that was not."""
    objective, start = from_function(valley), row(0.3, -0.6)
    at_once = advance_polish(objective, init_polish(objective, start))
    state, phases = init_polish(objective, start), set()
    while not state.done:
        state = PolishState.restore(state.tensors(), state.scalars())
        state = advance_polish(objective, state, iterations=1)
        phases.add(state.phase)
    assert "kink" in phases
    assert torch.equal(state.point, at_once.point) and state.gradients == at_once.gradients
    again = polish_result(objective, replace(state, result=None))
    assert again.smallest_subgradient == polish_result(objective, at_once).smallest_subgradient


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_relu_networks_on_digits(seed):
    """64-2-10 with a ridge, in 3 to 8 s: the loss falls, and the end is stationary in Clarke's sense."""
    problem = problem_of(
        {"name": "fc", "hidden": [2]},
        {"name": "digits", "subset": 60},
        loss={"name": "cross_entropy", "ridge": 1e-2},
    )
    loaded = load_problem(problem, Evaluation())
    objective, start = loaded.objective(60), loaded.initial_point(seed).double()
    stopped = polish_minimum(objective, start, PolishSettings(kink=0))
    found = polish_minimum(objective, start)
    assert found.verdict is Verdict.KINK and found.is_clarke_stationary
    assert found.loss < stopped.loss and not stopped.is_clarke_stationary
