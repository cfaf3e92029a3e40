"""Initial paths."""

import pytest
import torch

from tests.helpers.minimax import GridPasses
from tests.helpers.tiny_network import TinyNetwork
from topo_core.paths.coordinate_units import PROBES
from topo_core.paths.optimize import optimize_path
from topo_core.paths.polyline import line, segment_lengths
from topo_core.paths.profiles import loss_profile
from topo_core.paths.settings import PathSettings
from topo_core.paths.starts.initial_paths import find_start, initial_path
from topo_core.reference_landscapes.surfaces import embedded, gaussians, himmelblau, ring_valley


def heights(landscape, pair, start):
    ends = landscape.minima[list(pair)]
    settings = PathSettings(start=start)
    return optimize_path(landscape.objective, *ends, settings).profile.maximum


def test_line_is_straight_and_even():
    """``line`` has equal steps on the segment, with the ends as given."""
    objective = TinyNetwork()
    ends = torch.randn(2, objective.dimension, dtype=torch.float64)
    path = initial_path(objective, *ends, PathSettings(points=11, start="line"), 0)
    assert torch.equal(path[[0, -1]], ends)
    torch.testing.assert_close(path.diff(dim=0), ((ends[1] - ends[0]) / 10).expand(10, -1))


def test_bezier_is_lower_than_the_line():
    """A trained curve between two minima of a network is lower than the straight line."""
    objective = TinyNetwork()
    ends = objective.minimum(0), objective.minimum(1)
    settings = PathSettings(points=11, start="bezier", bezier_epochs=100)
    path = find_start(objective, *ends, settings.resolve(objective.batches), seed=0)
    straight = loss_profile(objective, line(*ends, 11)).maximum
    assert loss_profile(objective, path.points).maximum < straight
    lengths = segment_lengths(path.points)
    assert lengths.max() < 1.02 * lengths.min()
    assert path.gradient_evaluations == PROBES + 100 * objective.batches


def test_gradients_of_a_start_are_counted():
    """What a start costs is part of the gradient evaluations of the solution."""
    objective = TinyNetwork()
    ends = objective.minimum(0), objective.minimum(1)
    settings = PathSettings(points=5, epochs=2, start="bezier", bezier_epochs=3)
    path = optimize_path(objective, *ends, settings)
    assert path.gradient_evaluations == PROBES + 3 * 3 + 2 * 3 * 3


def test_routes_find_a_pass_that_the_line_misses():
    """On Himmelblau's function routes over other minima give the pair (1, 3) a lower pass than the line."""
    landscape = himmelblau()
    assert heights(landscape, (1, 3), "line") > 1.5 * landscape.passes[1, 3]
    assert heights(landscape, (1, 3), "routes") == pytest.approx(landscape.passes[1, 3], rel=1e-4)


def test_routes_leave_a_ridge_in_many_dimensions():
    """Routes leave a ridge by symmetry in 30 dimensions, where the direction can only be drawn at random."""
    inner = ring_valley(4)
    outer = embedded(inner.objective, 30, seed=2)
    ends = outer.lift(inner.minima[[0, 2]])
    path = optimize_path(outer, *ends)
    assert path.profile.maximum == pytest.approx(inner.passes[0, 2], rel=1e-3)


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))]
)
def test_default_finds_the_true_pass_between_gaussians(seed):
    """On random sums of Gaussians, in the plane and turned into 1,000 dimensions, the default's
    height is the grid's minimax within 1 % of the barrier."""
    landscape = gaussians(seed)
    last = len(landscape.minima) - 1
    ends = landscape.minima[[0, last]]
    true = GridPasses(landscape.objective, -4.5, 4.5, cells=401).between(*ends)
    allowed = 0.01 * (true - float(landscape.losses[last]))
    hidden = embedded(landscape.objective, 1000, seed)
    for objective, start, end in [
        (landscape.objective, *ends),
        (hidden, *hidden.lift(ends)),
    ]:
        path = optimize_path(objective, start, end, PathSettings(epochs=300))
        assert path.profile.maximum == pytest.approx(true, abs=allowed)


@pytest.mark.parametrize("name", ["aligned", "through", "warm"])
def test_starts_of_the_caller_are_refused_here(name):
    """A start that needs more than the two ends is refused, with what to do."""
    objective = TinyNetwork()
    ends = torch.randn(2, objective.dimension)
    with pytest.raises(ValueError, match="give it to PathSolver"):
        initial_path(objective, *ends, PathSettings(start=name), 0)


def test_routes_need_exact_gradients():
    """``routes`` on minibatches is refused in one sentence."""
    objective = TinyNetwork()
    ends = torch.randn(2, objective.dimension)
    with pytest.raises(ValueError, match="needs exact gradients"):
        initial_path(objective, *ends, PathSettings(start="routes"), 0)
