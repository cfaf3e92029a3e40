"""Default paths on landscapes whose passes are known."""

import pytest
import torch

from topo_core.critical_points.minima import polish_minimum
from topo_core.objectives.protocol import Step, from_function
from topo_core.paths.convergence import Outcome
from topo_core.paths.optimize import optimize_path
from topo_core.paths.polyline import line
from topo_core.paths.profiles import loss_profile
from topo_core.reference_landscapes import surfaces as landscapes

PASSES = {
    "muller_brown": [(0, 1), (0, 2), (1, 2)],
    "two_wells": [(0, 1)],
    "himmelblau": [(0, 1), (0, 2), (1, 3), (2, 3)],
    "rastrigin_patch": [(0, 1), (1, 5)],
    "ring_valley": [(0, 1), (0, 2)],
    "sphere_valley": [(0, 1), (0, 2)],
}


@pytest.mark.parametrize(
    ("name", "pair"), [(name, pair) for name, pairs in PASSES.items() for pair in pairs]
)
def test_default_path_finds_the_pass(name, pair):
    """With default settings the height is the known pass, within 1e-3 relative."""
    landscape = getattr(landscapes, name)()
    start, end = landscape.minima[list(pair)]
    found = optimize_path(landscape.objective, start, end)
    assert found.profile.maximum == pytest.approx(landscape.passes[pair], rel=1e-3)
    # BUDGET: the saddle is verified, and the search for lower ones below it is not complete.
    assert found.outcome in (Outcome.CONVERGED, Outcome.BUDGET)
    assert found.outcome is Outcome.CONVERGED or found.verified is not None


@pytest.mark.parametrize("name", PASSES)
def test_minima_have_no_gradient(name):
    """The gradient vanishes at each listed minimum, and the losses are those listed."""
    landscape = getattr(landscapes, name)()
    losses, gradients = landscape.objective.gradients(landscape.minima, Step(0, 0, 0))
    assert gradients.abs().max() < 1e-5
    torch.testing.assert_close(losses, landscape.losses)


def test_published_minima_of_muller_brown():
    """Losses and positions of the three minima are the published ones."""
    landscape = landscapes.muller_brown()
    published = torch.tensor([-146.6995, -108.1667, -80.7678], dtype=torch.float64)
    places = torch.tensor([[-0.558, 1.442], [0.623, 0.028], [-0.050, 0.467]], dtype=torch.float64)
    torch.testing.assert_close(landscape.losses, published, rtol=0, atol=1e-4)
    torch.testing.assert_close(landscape.minima, places, rtol=0, atol=1e-3)


@pytest.mark.parametrize("seed", [0, 1])
def test_float32_paths_reach_the_pass(seed):
    """In float32 the pass of a two-well function is found as well."""
    landscape = landscapes.two_wells()
    start, end = landscape.minima.float()
    found = optimize_path(landscape.objective, start, end, seed=seed)
    assert found.points.dtype == torch.float32
    assert found.profile.maximum == pytest.approx(1.0, rel=1e-3)


def test_embedding_hides_and_keeps_the_landscape():
    """Lifted points keep their losses, and directions outside of the plane go up."""
    inner = landscapes.muller_brown()
    outer = landscapes.embedded(inner.objective, 50, seed=3, stiffness=4.0)
    points = torch.randn(5, 2, dtype=torch.float64) * 0.3
    lifted = outer.lift(points)
    torch.testing.assert_close(outer.losses(lifted), inner.objective.losses(points))
    off = torch.randn(5, 50, dtype=torch.float64)
    off -= outer.lift(off @ outer.frame)
    expected = inner.objective.losses(points) + 2.0 * off.square().sum(1)
    torch.testing.assert_close(outer.losses(lifted + off), expected)


def test_gradients_of_an_embedding():
    """Gradients of an embedding are those of its losses."""
    outer = landscapes.embedded(landscapes.two_wells().objective, 6, seed=3)
    points = torch.randn(4, 6, dtype=torch.float64)
    _, found = outer.gradients(points, Step(0, 0, 0))
    x = points.clone().requires_grad_(True)
    inside = x @ outer.frame
    rest = (x - inside @ outer.frame.T).square().sum(1)
    loss = outer.inner.function(inside) + 0.5 * rest
    (expected,) = torch.autograd.grad(loss.sum(), x)
    torch.testing.assert_close(found, expected)


def test_descent_stays_in_its_valley():
    """A descent from beside a narrow minimum ends in it and not in a deeper one far away."""
    landscape = landscapes.rastrigin_patch(radius=3)
    found = polish_minimum(landscape.objective, torch.tensor([3.05, -2.02], dtype=torch.float64))
    assert (found.point - torch.tensor([2.85, -1.90], dtype=torch.float64)).abs().max() < 0.05


@pytest.mark.parametrize("wells", [3, 4, 6])
def test_ring_passes(wells):
    """The closed form of a ring's passes is the maximum along the valley between two wells."""
    landscape = landscapes.ring_valley(wells)
    angle = torch.linspace(0, 2 * torch.pi / wells, 2001, dtype=torch.float64)
    radius = torch.linspace(0.7, 1.1, 4001, dtype=torch.float64)
    middle = angle[1000]
    ray = radius[:, None] * torch.stack([middle.cos(), middle.sin()])
    assert float(landscape.objective.losses(ray).min()) == pytest.approx(
        landscape.passes[0, 1], abs=1e-6
    )


def test_a_function_of_the_wrong_shape_is_refused():
    """A function that does not return one value a row is refused in one sentence."""
    with pytest.raises(ValueError, match="must return one value a row"):
        from_function(lambda p: p.sum()).losses(torch.zeros(3, 2))


def test_symmetry_does_not_hold_a_path_on_a_ridge():
    """Across a ring the straight line has no force off it, and the default leaves it."""
    landscape = landscapes.ring_valley(4)
    start, end = landscape.minima[0], landscape.minima[2]
    straight = loss_profile(landscape.objective, line(start, end, 19)).maximum
    found = optimize_path(landscape.objective, start, end)
    assert straight == pytest.approx(1.0, abs=1e-6)
    assert found.profile.maximum < 0.2
