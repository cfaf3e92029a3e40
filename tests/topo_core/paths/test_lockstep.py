"""Paths walked in lockstep are the paths that are walked one by one, up to rounding."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.helpers.tiny_network import TinyNetwork
from topo_core.objectives.network_loss import ModuleObjective
from topo_core.objectives.protocol import Step, from_function, gradients_of_paths
from topo_core.paths.insertion_settings import Insertion
from topo_core.paths.polyline import line
from topo_core.paths.profiles import loss_profile, loss_profiles
from topo_core.paths.settings import PathSettings
from topo_core.paths.solver import PathSolver
from topo_core.paths.starts.trained_curves import begin_curve, train_curves
from topo_core.paths.tangents.registry import TANGENTS
from topo_core.paths.update_settings import OptimizerSettings
from topo_core.paths.updates.registry import UPDATES
from topo_core.random_streams import generator
from topo_core.reference_landscapes.surfaces import muller_brown

SEEDS = [3, 11, 5]
COARSE = {"heights": "paper"}  # a measurement that takes no time
RATES = {
    "scaled_adam": 0.01,
    "sgd": 0.05,
    "momentum": 0.01,
    "adam": 0.003,
    "lion": 0.001,
    "secant": 1.0,
}


def perceptron(strategy="linear"):
    """A small network on 26 examples in batches of 11: the last batch of an epoch is smaller."""
    draw = generator("together")
    inputs = torch.randn(26, 5, generator=draw, dtype=torch.float64)
    targets = torch.randint(3, (26,), generator=draw)
    module = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    return ModuleObjective(module, inputs, targets, batch_size=11, strategy=strategy)


def bent(objective, points=6, paths=3, scale=0.5):
    """Paths with uneven points between random ends."""
    draw = generator("bent", points)
    actual = []
    for _ in range(paths):
        ends = scale * torch.randn(2, objective.dimension, generator=draw, dtype=torch.float64)
        path = line(*ends, points)
        noise = torch.randn(path[1:-1].shape, generator=draw, dtype=torch.float64)
        path[1:-1] += 0.1 * scale * noise
        actual.append(path)
    return actual


def assert_same(actual, expected, bound=1e-12):
    """States agree: tensors and what was recorded, to ``bound``; what is counted, exactly."""
    assert actual.tensors().keys() == expected.tensors().keys()
    for name, rows in expected.tensors().items():
        close = torch.allclose(actual.tensors()[name], rows, rtol=bound, atol=bound)
        assert close, (name, float((actual.tensors()[name] - rows).abs().max()))
    ours, theirs = actual.scalars(), expected.scalars()
    histories = ours.pop("history"), theirs.pop("history")
    for one, other in [(ours, theirs), *zip(*histories, strict=True)]:
        assert one.keys() == other.keys()
        for name, value in other.items():
            if isinstance(value, float | tuple | list):
                assert one[name] == pytest.approx(value, rel=1e-9, abs=bound), name
            else:
                assert one[name] == value, name


def both(objective, paths, settings, until=4):
    """States walked together, and one by one; also those that are as low as their higher end."""
    solver = PathSolver(objective, settings)
    states = [replace(solver.begin(path), best_maximum=math.inf) for path in paths]
    seeds = SEEDS[: len(states)]
    together = solver.advance_together(states, seeds, until_epoch=until)
    alone = [
        solver.advance(state, seed, until_epoch=until)
        for state, seed in zip(states, seeds, strict=True)
    ]
    return together, alone


@pytest.mark.parametrize("force", TANGENTS)
@pytest.mark.parametrize("optimizer", UPDATES)
def test_every_method_agrees(force, optimizer):
    """All forces and optimisers, with redistribution, annealing and a climbing point at the end."""
    objective = perceptron()
    settings = PathSettings(
        epochs=4,
        force=force,
        optimizer=OptimizerSettings(optimizer, lr=RATES[optimizer]),
        redistribute_every=2,
        focus=2.0 if optimizer == "adam" else 0.0,
        climbing_epochs=2 if TANGENTS[force].method.climbs else 0,
        evaluate_every=4,
        heights="paper",
    )
    together, alone = both(objective, bent(objective), settings)
    for actual, expected, path in zip(together, alone, bent(objective), strict=True):
        assert_same(actual, expected)
        assert float((actual.points - path).abs().max()) > 1e-3


@pytest.mark.parametrize("strategy", ["linear", "functional", "literal"])
def test_every_strategy_agrees(strategy):
    """The default settings, with each strategy that evaluates several paths."""
    objective = perceptron(strategy)
    settings = PathSettings(epochs=1, evaluate_every=1, **COARSE)
    together, alone = both(objective, bent(objective, 4, 2), settings, until=1)
    for actual, expected in zip(together, alone, strict=True):
        assert_same(actual, expected)


def test_an_objective_that_knows_one_path_is_enough():
    """Without ``gradients_of_paths`` the paths of a step are evaluated one after the other."""
    objective = TinyNetwork()
    paths = bent(objective, 4, 2)
    together, alone = both(
        objective, paths, PathSettings(epochs=1, evaluate_every=1, **COARSE), until=1
    )
    for actual, expected in zip(together, alone, strict=True):
        assert_same(actual, expected)


def test_exact_gradients_agree_until_rest():
    """With exact gradients a path that comes to rest leaves, and the others go on."""
    landscape = muller_brown()
    pairs = itertools.combinations(landscape.minima, 2)
    paths = [line(a, b, 9) for a, b in pairs]
    settings = PathSettings(points=9, epochs=300, **COARSE)
    together, alone = both(landscape.objective, paths, settings, until=300)
    assert len({state.epoch for state in alone}) > 1
    for actual, expected in zip(together, alone, strict=True):
        assert actual.epoch == expected.epoch
        assert actual.best_maximum == pytest.approx(expected.best_maximum, rel=1e-9)


@pytest.mark.parametrize("ends", ["fixed", "paper"])
def test_insertion_agrees(ends):
    """Where insertion gives paths different numbers of points, they go on in groups of their own."""
    objective = perceptron()
    settings = PathSettings(
        epochs=6,
        evaluate_every=6,
        heights="paper",
        insertion=Insertion(every=2, threshold=1.1, ends=ends),
        redistribute_every=0,
    )
    paths = bent(objective)
    paths[0] = line(paths[0][0], paths[0][-1], 6)
    together, alone = both(objective, paths, settings, until=6)
    assert len({len(state.points) for state in alone}) > 1
    for actual, expected in zip(together, alone, strict=True):
        assert_same(actual, expected)


def test_random_points_agree():
    """With ``points_per_step`` each path draws its own points, and bits do not depend on company."""
    objective = perceptron()
    settings = PathSettings(epochs=3, points_per_step=2, evaluate_every=3, **COARSE)
    together, alone = both(objective, bent(objective), settings, until=3)
    for actual, expected in zip(together, alone, strict=True):
        assert torch.equal(actual.points, expected.points)


def test_a_path_that_diverges_harms_no_other():
    """A path that becomes infinite ends as it does alone; those beside it are what they are alone."""
    objective = from_function(
        lambda x: torch.where(x[:, 0] < 5, (x**2).sum(1), x.exp().exp().sum(1))
    )
    settings = PathSettings(
        epochs=4, evaluate_every=1, optimizer=OptimizerSettings(lr=0.05), max_move=None
    )
    good = line(torch.tensor([-1.0, 0.5]).double(), torch.tensor([1.0, 0.0]).double(), 5)
    bad = line(torch.tensor([-1.0, 0.0]).double(), torch.tensor([9.0, 4.0]).double(), 5)
    solver = PathSolver(objective, settings)
    states = [solver.begin(path) for path in (good, good.clone())]
    states = [replace(state, best_maximum=math.inf) for state in states]  # though as low as can be
    bad_state = replace(states[0], points=bad, best=good)
    given = [states[0], bad_state, states[1]]
    actual = solver.advance_together(given, SEEDS, until_epoch=4)
    alone = solver.advance(bad_state, SEEDS[1], until_epoch=4)
    assert alone.failure and actual[1].failure == alone.failure
    for i in (0, 2):
        assert_same(actual[i], solver.advance(given[i], SEEDS[i], until_epoch=4))
        assert not actual[i].failure


def test_curves_trained_together_agree():
    """Bézier starts of several pairs of ends are those of each pair alone."""
    objective = perceptron()
    resolved = PathSettings(points=6, start="bezier", bezier_epochs=4).resolve(objective.batches)
    states = [begin_curve(objective, path[0], path[-1], 0) for path in bent(objective)]
    (actual,) = train_curves(objective, states, resolved, SEEDS, every=100)
    for i, (state, seed) in enumerate(zip(states, SEEDS, strict=True)):
        (alone,) = train_curves(objective, [state], resolved, [seed], every=100)
        assert torch.allclose(actual[i].points, alone[0].points, rtol=1e-12, atol=1e-12)
        straight = line(state.nodes[0], state.nodes[-1], 6)
        assert float((actual[i].points - straight).abs().max()) > 1e-3


def test_paths_behind_catch_up():
    """Paths at different epochs, as checkpoints leave them, end where they end alone."""
    objective = perceptron()
    settings = PathSettings(epochs=5, evaluate_every=1, **COARSE)
    solver = PathSolver(objective, settings)
    states = [solver.begin(path) for path in bent(objective)]
    ahead = solver.advance(states[1], SEEDS[1], until_epoch=3)
    actual = solver.advance_together([states[0], ahead, states[2]], SEEDS, until_epoch=5)
    for state, seed, end in zip(states, SEEDS, actual, strict=True):
        assert_same(end, solver.advance(state, seed, until_epoch=5))


def test_interruption_changes_no_bit():
    """In one call or epoch by epoch: the same bits, and no given state is written to."""
    objective = perceptron()
    settings = PathSettings(epochs=4, evaluate_every=2, **COARSE)
    solver = PathSolver(objective, settings)
    states = [solver.begin(path) for path in bent(objective)]
    before = [state.points.clone() for state in states]
    whole = solver.advance_together(states, SEEDS, until_epoch=4)
    parts = states
    for epoch in range(1, 5):
        parts = solver.advance_together(parts, SEEDS, until_epoch=epoch)
    for one, other, state, points in zip(whole, parts, states, before, strict=True):
        assert torch.equal(one.points, other.points) and torch.equal(one.best, other.best)
        assert torch.equal(state.points, points)


def test_many_paths_are_one_call():
    """A step of p paths asks the objective once, for all of them, on p minibatches."""
    asked = []

    class Counting:
        dimension, batches = 2, 3

        def gradients(self, points, step):
            raise AssertionError("asked for one path")

        def gradients_of_paths(self, points, steps):
            asked.append((tuple(points.shape), tuple(step.seed for step in steps)))
            return (points**2).sum(2), 2 * points

        def losses(self, points):
            return (points**2).sum(1).double()

    objective = Counting()
    settings = PathSettings(epochs=1, optimizer=OptimizerSettings())
    path = line(torch.tensor([-1.0, 0.5]), torch.tensor([1.0, 0.0]), 5)
    path[2] = torch.tensor([0.0, 2.0])  # higher than the ends, so that there is something to do
    solver = PathSolver(objective, settings)
    states = [solver.begin(path) for _ in SEEDS]
    solver.advance_together(states, SEEDS, until_epoch=1)
    assert asked == [((3, 3, 2), tuple(SEEDS))] * 3


def test_steps_of_a_call_have_one_batch():
    """Batches of different sizes cannot share a call: it is refused."""
    objective = perceptron()
    points = torch.zeros(2, 3, objective.dimension, dtype=torch.float64)
    with pytest.raises(ValueError):
        gradients_of_paths(objective, points, [Step(0, 0, 0), Step(1, 0, 1)])
    assert math.isfinite(float(gradients_of_paths(objective, points, [Step(0, 0, 0)] * 2)[0].sum()))


def test_heights_measured_together_are_those_of_each():
    """Adaptive profiles in lockstep evaluate the same points as alone, in fewer calls."""
    landscape = muller_brown()
    calls = []

    def counted(points):
        calls.append(len(points))
        return landscape.objective.function(points)

    objective = from_function(counted)
    draw = generator("profiles")
    paths = []
    for n in (5, 9, 7):
        start, end = landscape.minima[torch.randperm(3, generator=draw)[:2]]
        path = line(start, end, n)
        path[1:-1] += 0.1 * torch.randn(n - 2, 2, generator=draw, dtype=torch.float64)
        paths.append(path)
    actual = loss_profiles(objective, paths)
    together = len(calls)
    expected = [loss_profile(objective, path) for path in paths]
    assert together < len(calls) - together
    for profile, alone in zip(actual, expected, strict=True):
        assert torch.equal(profile.positions, alone.positions)
        assert torch.allclose(profile.losses, alone.losses, rtol=1e-13)
        assert profile.evaluations == alone.evaluations
        assert profile.bracket == pytest.approx(alone.bracket, rel=1e-9)
