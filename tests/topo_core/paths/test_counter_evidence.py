"""What speaks against CONVERGED: lower losses beside the highest point, and gradients of another function."""

import pytest
import torch
from torch import nn

from topo_core.objectives.network_loss import ModuleObjective
from topo_core.objectives.protocol import from_function
from topo_core.paths.convergence import Outcome
from topo_core.paths.optimize import optimize_path
from topo_core.paths.settings import PathSettings
from topo_core.simplices.optimize import optimize_simplex
from topo_core.simplices.settings import SimplexSettings

ENDS = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)


def well(points):
    return (points[:, 0] ** 2 - 1) ** 2


RIDGES = {
    "kink": (lambda y: -y.abs() + y**2, 0.75),
    "blunt kink": (lambda y: 0.5 * torch.maximum(-y.abs(), -0.3 + 0 * y) + 0.1 * y**2, 0.859),
    "quartic": (lambda y: -(y**4) + y**6, 1 - 4 / 27),
    "root": (lambda y: -(y.abs() ** 1.5) + y**2, 1 - 27 / 256),
}


@pytest.mark.parametrize(
    ("name", "start", "others"),
    [
        *((name, "line", others) for name in RIDGES for others in (0, 4)),
        ("kink", "bezier", 0),
        ("quartic", "auto", 0),
    ],
)
def test_a_path_on_a_ridge_without_curvature_has_not_converged(name, start, others):
    """Met exactly on its axis of symmetry, a concave kink or a flat ridge has gradient and curvature zero."""
    across, lowest = RIDGES[name]
    objective = from_function(
        lambda p: well(p) + across(p[:, 1]) + p[:, 2:].square().sum(1), 2 + others
    )
    ends = torch.cat([ENDS, torch.zeros(2, others, dtype=torch.float64)], dim=1)
    path = optimize_path(objective, *ends, PathSettings(start=start, epochs=200))
    if path.profile.maximum > 1.01 * lowest:
        assert path.outcome is not Outcome.CONVERGED
        assert path.evidence.remaining_fall > 0.05


@pytest.mark.parametrize(
    ("scales", "start"),
    [
        ((1e-3, 1.0), "routes"),
        ((1.0, 1e3), "line"),
        ((1.0, 1e3), "auto"),
        ((1e-2, 1e2), "auto"),
    ],
)
def test_coordinates_may_be_scaled_one_by_one(scales, start):
    """Condition numbers of 1e6 to 1e8 make a gradient small that leads far down: CONVERGED stays true."""
    scale = torch.tensor(scales, dtype=torch.float64)

    def bent(points):
        x, y = (points / scale).T
        return (x**2 - 1) ** 2 + 4 * (y - 1 + x**2) ** 2

    path = optimize_path(from_function(bent, 2), *(ENDS * scale), PathSettings(start=start))
    if path.outcome is Outcome.CONVERGED:
        assert path.profile.maximum == pytest.approx(1.0, rel=0.01)
    if start == "auto":  # the search over saddles does not depend on the units
        assert path.outcome is Outcome.CONVERGED


class Cut(nn.Module):
    """A network of which one part has no gradient."""

    def __init__(self, cut=True):
        super().__init__()
        self.cut = cut
        self.first, self.second, self.last = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        second = self.second(x).tanh()
        return self.last(torch.tanh(self.first(x)) + (second.detach() if self.cut else second))


@pytest.mark.parametrize("batch_size", [10, 40])
def test_gradients_of_a_network_of_which_a_part_is_cut_prove_nothing(batch_size):
    """Also with minibatches: the loss changes in directions in which the gradient is zero."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 3, generator=draw)
    targets = torch.randint(2, (40,), generator=draw)
    objective, whole = (
        ModuleObjective(Cut(cut), inputs, targets, batch_size=batch_size, strategy="literal")
        for cut in (True, False)
    )
    ends = torch.randn(2, objective.dimension, generator=draw)
    for _ in range(100):
        ends -= whole.full_gradients(ends)[1]
    settings = PathSettings(start="line", epochs=30, convergence_tolerance=1e9)
    path = optimize_path(objective, *ends, settings)
    assert path.outcome is not Outcome.CONVERGED
    assert "gradients do not fit the loss" in path.evidence.reason


class CutBatches:
    """Two minibatches, no gradient over the whole set, and a gradient that leaves out one term."""

    dimension, batches = 2, 2

    def __init__(self):
        def valley(p):
            return 4 * (p[:, 1] - 1 + p[:, 0] ** 2) ** 2

        self.losses = from_function(lambda p: well(p) + valley(p)).losses
        self.gradients = from_function(lambda p: well(p).detach() + valley(p)).gradients


def test_gradients_of_minibatches_are_checked_as_well():
    """An objective that knows no gradient over the whole set has the losses of its minibatches."""
    path = optimize_path(
        CutBatches(), *ENDS, PathSettings(start="line", epochs=60, convergence_tolerance=1e9)
    )
    assert path.outcome is not Outcome.CONVERGED
    assert "gradients do not fit the loss" in path.evidence.reason


def arcs():
    """Three minima on the unit circle of a plane in space, and the arcs between them."""
    angles = torch.tensor([0.0, 2.0, 4.0], dtype=torch.float64) * torch.pi / 3

    def circle(angle):
        return torch.stack([angle.cos(), angle.sin(), 0 * angle], dim=1)

    steps = torch.linspace(0, 1, 25, dtype=torch.float64)
    vertices = circle(angles)
    faces = {}
    for i, j in ((0, 1), (0, 2), (1, 2)):
        start, end = angles[i], angles[j] - (2 * torch.pi if (i, j) == (0, 2) else 0)
        arc = circle(start + steps * (end - start))
        arc[0], arc[-1] = vertices[i], vertices[j]
        faces[i, j] = arc
    return vertices, faces


SPHERE = from_function(lambda p: (p.square().sum(1) - 1) ** 2, 3)


def test_a_triangle_held_on_a_ridge_by_symmetry_has_not_converged():
    """A disc in a sphere feels no force out of its plane, and a cap of the sphere has no height."""
    vertices, faces = arcs()
    found = optimize_simplex(SPHERE, vertices, faces, SimplexSettings(subdivisions=8))
    assert found.value > 0.9
    assert found.outcome is Outcome.STALLED
    assert "falls by" in found.reason and found.remaining_fall > 0.5


@pytest.mark.parametrize("ridge", ["kink", "quartic"])
def test_a_triangle_on_a_ridge_without_curvature_has_not_converged(ridge):
    """As of a path: the gradient across a kink or a flat ridge is zero where it is met exactly."""
    across, _ = RIDGES[ridge]
    objective = from_function(lambda p: (-p[:, :2].square().sum(1)).exp() + across(p[:, 2]), 3)
    vertices, _ = arcs()
    vertices = 3 * vertices
    steps = torch.linspace(0, 1, 7, dtype=torch.float64)[:, None]
    faces = {
        (i, j): torch.lerp(vertices[i], vertices[j], steps) for i, j in ((0, 1), (0, 2), (1, 2))
    }
    found = optimize_simplex(objective, vertices, faces)
    assert found.value == pytest.approx(1.0, abs=1e-3)
    assert found.outcome is Outcome.STALLED and "falls by" in found.reason


def test_gradients_of_another_function_prove_nothing_of_a_triangle():
    """A part of the graph is cut, so that the triangle does not feel the slope towards z = 0.7."""

    def hill(p):
        return (1 + (p[:, 2].detach() - 0.7) ** 2) * (-p[:, :2].square().sum(1)).exp()

    vertices, _ = arcs()
    vertices = 3 * vertices
    steps = torch.linspace(0, 1, 7, dtype=torch.float64)[:, None]
    faces = {
        (i, j): torch.lerp(vertices[i], vertices[j], steps) for i, j in ((0, 1), (0, 2), (1, 2))
    }
    found = optimize_simplex(from_function(hill, 3), vertices, faces)
    assert found.outcome is Outcome.STALLED
    assert "gradients do not fit the loss" in found.reason
