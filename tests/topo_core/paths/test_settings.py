"""Settings of a path: what is refused, and what is filled in."""

import pytest
import torch

from topo_core.paths.insertion_settings import Insertion
from topo_core.paths.optimize import optimize_path
from topo_core.paths.settings import PathSettings
from topo_core.paths.solver import PathSolver
from topo_core.paths.update_settings import OptimizerSettings
from topo_core.reference_landscapes.surfaces import two_wells
from topo_core.simplices.settings import SimplexSettings
from workers.tasks.path_tasks import PathTaskSettings
from workers.tasks.simplex_tasks import SimplexTaskSettings


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"points": 2}, "points is 2; it must be 3 or more"),
        ({"points": 3.5}, "points is 3.5; it must be a whole number, 3 or more"),
        ({"epochs": True}, "epochs is True; it must be a whole number, 0 or more"),
        ({"l2": True}, "l2 is True; it must be a finite number, 0 or more"),
        ({"heights": "grid"}, "heights is 'grid'; choose one of adaptive, paper"),
        ({"force": "paper", "climbing_epochs": 5}, "climbing_epochs is 5, and no point climbs"),
        ({"epochs": -1}, "epochs is -1; it must be 0 or more"),
        ({"force": "magic"}, "choose one of improved, paper, string, spring"),
        ({"start": "curve"}, "start is 'curve'"),
        ({"l2": float("nan")}, "l2 is nan"),
        ({"max_move": 0.0}, "max_move is 0.0"),
        ({"bezier_rate": 0.0}, "bezier_rate is 0.0; it must be a finite number, above 0"),
        ({"height_tolerance": 0.0}, "above 0"),
        ({"points": 40, "insertion": Insertion()}, "below points = 40"),
    ],
)
def test_impossible_settings_are_refused(numbers, message):
    """A wrong value is refused by one sentence that names its key and what is allowed."""
    with pytest.raises(ValueError, match=message):
        PathSettings(**numbers)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"name": "lbfgs"}, "choose one of sgd, momentum, adam, scaled_adam, lion, secant"),
        ({"lr": float("nan")}, "optimizer.lr is nan"),
        ({"lr": 0.0}, "above 0"),
        ({"lr": True}, "optimizer.lr is True; it must be a finite number"),
        ({"lr": "0.1"}, "optimizer.lr is '0.1'; it must be a finite number"),
        ({"momentum": 1.0}, "optimizer.momentum"),
        ({"betas": (0.9, 1.5)}, "optimizer.betas"),
        ({"eps": 0.0}, "optimizer.eps"),
    ],
)
def test_impossible_optimizers_are_refused(numbers, message):
    """A wrong value is refused by one sentence that names its key and what is allowed."""
    with pytest.raises(ValueError, match=message):
        OptimizerSettings(**numbers)


def test_defaults_follow_the_objective():
    """Minibatches get a trained curve, then Adam with a final annealing; exact gradients secant steps."""
    network, formula = PathSettings().resolve(16), PathSettings().resolve(1)
    assert (network.optimizer, network.start) == (OptimizerSettings("adam", lr=0.003), "bezier")
    assert (formula.optimizer.name, formula.start) == ("secant", "saddles")
    assert network.schedule.name == "anneal"
    assert (network.redistribute_every, network.epochs, formula.epochs) == (10, 125, 2000)


def test_large_exact_losses_have_their_own_defaults():
    """Above 1,000 dimensions a trained curve, then a path that gets points where chords cut corners.

    Above 128 dimensions the path has them already, where a search over saddles rarely ends the matter.
    """
    large = PathSettings().resolve(1, 1001)
    assert (large.start, large.optimizer.name, large.focus) == ("bezier", "scaled_adam", 0.0)
    assert large.insertion is not None and large.insertion.criterion == "residual"
    assert large.most_points == 37
    medium = PathSettings().resolve(1, 49)
    assert (medium.start, medium.optimizer.name, medium.epochs) == ("saddles", "scaled_adam", 300)
    assert PathSettings().resolve(1, 48) == PathSettings().resolve(1)
    assert PathSettings(force="paper").resolve(1, 1001).insertion is None


@pytest.mark.parametrize(("batches", "passes"), [(1, 1600), (4, 1600), (8, 800), (100, 800)])
def test_the_budget_of_a_curve_is_in_gradients(batches, passes):
    """However few minibatches there are, a curve may have 6,400 gradients. Where saddles are searched, with
    exact gradients in up to 1,000 dimensions, it has 1,600."""
    assert PathSettings().resolve(batches).bezier_epochs == passes
    assert PathSettings().resolve(1, 1001).bezier_epochs == 6400


@pytest.mark.parametrize("batches", [1, 16])
def test_paper_is_the_text(batches):
    """Algorithm 2 starts from the straight line and takes plain gradient steps at a constant rate."""
    resolved = PathSettings(force="paper").resolve(batches)
    assert (resolved.optimizer, resolved.start) == (OptimizerSettings("sgd", lr=0.05), "line")
    assert (resolved.schedule.name, resolved.redistribute_every, resolved.max_move) == (
        "constant",
        0,
        None,
    )


def test_what_is_given_is_kept():
    """``resolve`` replaces nothing that was stated."""
    given = PathSettings(epochs=7, start="bezier", redistribute_every=3, focus=0.5, max_move=0.1)
    resolved = given.resolve(1)
    assert (resolved.epochs, resolved.start, resolved.redistribute_every) == (7, "bezier", 3)
    assert (resolved.focus, resolved.max_move) == (0.5, 0.1)


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ((torch.zeros(2), torch.zeros(3)), "two vectors of one length"),
        ((torch.zeros(1, 2), torch.zeros(1, 2)), "two vectors of one length"),
        ((torch.zeros(3), torch.ones(3)), "dimension 3"),
        ((torch.zeros(2), torch.tensor([torch.nan, 0.0])), "not finite"),
        ((torch.zeros(2).cfloat(), torch.ones(2).cfloat()), "complex64; give floating"),
        ((torch.zeros(2).bool(), torch.ones(2).bool()), "bool; give floating"),
    ],
)
def test_impossible_ends_are_refused(ends, message):
    """Ends of a wrong shape or value are refused in one sentence."""
    with pytest.raises(ValueError, match=message):
        optimize_path(two_wells().objective, *ends, PathSettings(start="line"))


def test_a_path_has_two_axes():
    """A start that is not a list of points is refused in one sentence."""
    with pytest.raises(ValueError, match="it must be"):
        PathSolver(two_wells().objective, PathSettings()).begin(torch.zeros(2))


def test_a_function_of_ones_own_has_no_weight_decay():
    """Weight decay is the paper's, for networks: paths of a run have it, other paths and simplices do not."""
    assert PathSettings().l2 == SimplexSettings().l2 == 0.0
    assert PathTaskSettings().l2 == SimplexTaskSettings().l2 == 1e-5
