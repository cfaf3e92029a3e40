"""Optimised simplices against closed forms, and their state as a checkpoint."""

import itertools
import json
import math

import pytest
import torch

from tests.helpers.tiny_network import TinyNetwork
from topo_core.objectives.protocol import from_function
from topo_core.paths.convergence import Outcome
from topo_core.paths.polyline import line
from topo_core.paths.profiles import loss_profile
from topo_core.paths.schedules import Schedule
from topo_core.paths.update_settings import OptimizerSettings
from topo_core.random_streams import generator
from topo_core.simplices.faces import edge_nodes, simplex_boundary
from topo_core.simplices.lattice import lattice, samples
from topo_core.simplices.optimize import optimize_simplex
from topo_core.simplices.profiles import simplex_profiles
from topo_core.simplices.settings import SimplexSettings
from topo_core.simplices.solver import advance_simplices, begin_simplices, simplex_is_finished
from topo_core.simplices.state import SimplexState


def flat_faces(vertices, settings, subset=None):
    """The faces of a straight simplex, made from straight edges."""
    count = len(vertices)
    if count == 3:
        return {
            (i, j): line(vertices[i], vertices[j], settings.subdivisions + 1)
            for i, j in itertools.combinations(range(3), 2)
        }
    faces = {}
    for face in itertools.combinations(range(count), count - 1):
        nodes = lattice(count - 2, settings.subdivisions).coordinates.to(vertices)
        faces[face] = nodes @ vertices[list(face)] / settings.subdivisions
    return faces


def around_an_axis(count, height=0.0):
    """A straight simplex of ``count`` vertices across the last axis, at the height ``height``."""
    corners = torch.eye(count, dtype=torch.float64) - 1 / count
    _, _, basis = torch.linalg.svd(corners)
    flat = 3 * corners @ basis[: count - 1].T
    return torch.cat([flat, torch.full((count, 1), height, dtype=torch.float64)], dim=1)


def hill(lowest=0.7):
    """A hill around the last axis, where it has the height 1 + (z - lowest)²."""
    return from_function(
        lambda x: (1 + (x[:, -1] - lowest) ** 2) * torch.exp(-x[:, :-1].square().sum(1))
    )


def exact_faces(vertices, settings):
    """Faces whose common nodes have the same bits."""
    faces = flat_faces(vertices, settings)
    if len(vertices) == 3:
        return faces
    shared = {}
    for face, rows in faces.items():
        nodes = lattice(len(face) - 1, settings.subdivisions).coordinates.tolist()
        for row, node in enumerate(nodes):
            name = tuple((v, a) for v, a in zip(face, node, strict=True) if a)
            if len(name) == 1:
                rows[row] = vertices[name[0][0]]
            rows[row] = shared.setdefault(name, rows[row].clone())
    return faces


@pytest.mark.parametrize(("count", "outcome"), [(3, Outcome.CONVERGED), (4, Outcome.STALLED)])
def test_a_simplex_slides_to_the_lowest_point_that_it_cannot_avoid(count, outcome):
    """A disc (a ball) round an axis must cross it, at best where the loss on it is lowest: 1.

    Both become higher again after their lowest maximum. The disc returned is stationary at its
    highest point; the ball returned is 0.0096 too high, and its word is not CONVERGED.
    """
    settings = SimplexSettings(height_tolerance=1e-6)
    vertices = around_an_axis(count)
    result = optimize_simplex(hill(), vertices, exact_faces(vertices, settings), settings)
    assert result.history[0].dense_maximum == pytest.approx(1.49, abs=1e-4)
    assert 1 - 1e-9 <= result.value <= 1.01
    assert result.outcome is outcome, result.reason
    assert torch.allclose(
        result.profile.argmax, torch.full((count,), 1 / count, dtype=torch.float64), atol=0.05
    )


def turned(points, shift):
    """``points`` [n, 3] after a rotation and a translation."""
    rotation, _ = torch.linalg.qr(
        torch.randn(3, 3, generator=generator("turn"), dtype=torch.float64)
    )
    return points @ rotation.T + shift


@pytest.mark.parametrize(
    ("scale", "offset", "moves"), [(0.01, 1e4, False), (1e3, -5.0, False), (1.0, 0.0, True)]
)
def test_the_value_does_not_depend_on_units_or_axes(scale, offset, moves):
    """L → a L + b, and a rotation and a translation of the coordinates, carry the result along."""
    settings = SimplexSettings(height_tolerance=1e-6)
    vertices, shift = around_an_axis(3), torch.tensor([3.0, -2.0, 5.0], dtype=torch.float64)
    plain = optimize_simplex(hill(), vertices, flat_faces(vertices, settings), settings)
    back = turned(torch.eye(3, dtype=torch.float64), 0.0)  # rows: the images of the axes
    other = from_function(
        lambda x: (
            scale
            * (1 + (((x - shift) @ back.T if moves else x)[:, -1] - 0.7) ** 2)
            * torch.exp(-((x - shift) @ back.T if moves else x)[:, :-1].square().sum(1))
            + offset
        )
    )
    corners = turned(vertices, shift) if moves else vertices
    result = optimize_simplex(other, corners, flat_faces(corners, settings), settings)
    assert (result.value - offset) / scale == pytest.approx(plain.value, rel=1e-5)
    assert result.outcome is plain.outcome
    assert result.remaining_fall / scale == pytest.approx(plain.remaining_fall, abs=1e-3)


def test_a_simplex_that_fills_its_space_stays_where_it_is():
    """In a plane a triangle has no normal direction; its value is the hill that it contains."""
    objective = from_function(lambda x: torch.exp(-4 * (x - 0.1).square().sum(1)))
    vertices = around_an_axis(3)[:, :2].contiguous()
    result = optimize_simplex(objective, vertices, flat_faces(vertices, SimplexSettings()))
    assert result.value == pytest.approx(1, abs=1e-4)
    assert result.outcome is Outcome.CONVERGED
    nodes = lattice(2, 6)
    flat = nodes.coordinates.to(vertices) @ vertices / 6
    assert torch.allclose(result.points, flat, atol=1e-12)


def test_a_simplex_is_as_high_as_its_faces_and_then_is_finished():
    """Where the sheet avoids the hill, the value is that of the highest edge, measured
    on the polygon of m + 1 points, and no step is taken, because it cannot get lower."""
    objective = from_function(lambda x: torch.exp(-4 * x.square().sum(1)))
    vertices = around_an_axis(3, height=0.01)
    settings = SimplexSettings(subdivisions=5)
    bent = line(vertices[0], vertices[1], 41)
    bent[:, 2] += torch.linspace(0, math.pi, 41, dtype=torch.float64).sin() * 0.3
    bent[:, :2] *= 1 - 0.5 * torch.linspace(0, math.pi, 41, dtype=torch.float64).sin()[:, None]
    bent[0], bent[-1] = vertices[0], vertices[1]
    faces = {**flat_faces(vertices, settings), (0, 1): bent}
    result = optimize_simplex(objective, vertices, faces, settings)
    heights = [
        loss_profile(objective, edge_nodes(path, settings), tolerance=1e-4).maximum
        for path in faces.values()
    ]
    assert result.value == pytest.approx(max(heights), rel=1e-3)
    assert result.value >= max(heights)
    assert result.outcome is Outcome.CONVERGED
    assert result.gradient_evaluations <= 50 * len(lattice(2, 5).interior)


def test_the_best_simplex_is_kept():
    """A learning rate that throws the sheet about cannot make the result worse than its start."""
    settings = SimplexSettings(
        epochs=60, evaluate_every=1, max_move=None, optimizer=OptimizerSettings("sgd", lr=3.0)
    )
    vertices = around_an_axis(3)
    result = optimize_simplex(hill(), vertices, flat_faces(vertices, settings), settings)
    heights = [measure.dense_maximum for measure in result.history]
    assert max(heights) > heights[0]
    assert result.value == min(heights) >= 1


@pytest.mark.parametrize("kink", [False, True])
def test_the_dense_maximum_is_within_its_bracket(kink):
    """No point of a fine grid on random simplices is higher than maximum + bracket."""
    draw = generator("simplex-profile", kink)
    centres = torch.randn(20, 3, generator=draw, dtype=torch.float64)

    def loss(points):
        distance = torch.cdist(points, centres)
        return -distance.amin(1) if kink else torch.exp(-8 * distance.square()).sum(1)

    objective = from_function(loss)
    nodes = lattice(2, 4)
    points = 0.7 * torch.randn(6, 15, 3, generator=draw, dtype=torch.float64)
    profiles = simplex_profiles(objective, points, nodes, tolerance=1e-5)
    corners, weights = samples(2, 4, 32)
    for sheet, profile in zip(points, profiles, strict=True):
        dense = objective.losses(torch.einsum("kc,kcd->kd", weights, sheet[corners])).max()
        argmax, weight = nodes.interpolation(profile.argmax[None] * 4)
        there = (weight[0, :, None] * sheet[argmax[0]]).sum(0, keepdim=True)
        assert float(objective.losses(there)) == pytest.approx(profile.maximum, abs=1e-12)
        assert float(dense) <= profile.maximum + profile.bracket + 1e-5


VARIANTS = {
    "sgd": {"optimizer": OptimizerSettings("sgd")},
    "adam": {"optimizer": OptimizerSettings("adam", lr=0.003)},
    "momentum": {"optimizer": OptimizerSettings("momentum", lr=0.01)},
    "secant": {"optimizer": OptimizerSettings("secant")},
    "scaled": {},
}


def same(first: SimplexState, second: SimplexState) -> None:
    assert first.scalars() == second.scalars()
    for name, rows in first.tensors().items():
        assert torch.equal(rows, second.tensors()[name]), name


@pytest.fixture(scope="module")
def trained():
    """An objective with minibatches and three of its minima."""
    objective = TinyNetwork()
    return objective, torch.stack([objective.minimum(index) for index in range(3)])


def network_start(trained, settings):
    objective, vertices = trained
    around = simplex_boundary(objective, vertices, flat_faces(vertices, settings), settings)
    # Straight edges are barriers, so a sheet between them would be finished at once: a floor of 0.
    return objective, begin_simplices(objective, [around.points], [0.0], 2, settings)[0]


@pytest.mark.parametrize("name", VARIANTS)
def test_interruption_changes_no_bit(name, trained):
    """Ten epochs at once, and ten with the state written and read after each, are one."""
    settings = SimplexSettings(
        epochs=10, evaluate_every=3, spread_every=7, grid=2, height_tolerance=0.05, **VARIANTS[name]
    )
    objective, start = network_start(trained, settings)
    assert not simplex_is_finished(start, settings)
    (whole,) = advance_simplices(objective, [start], settings, 5, until_epoch=10)
    state = start
    for epoch in range(1, 11):
        (state,) = advance_simplices(objective, [state], settings, 5, until_epoch=epoch)
        scalars = json.loads(json.dumps(state.scalars(), allow_nan=False))
        state = SimplexState.restore(state.tensors(), scalars)
    same(whole, state)
    assert not torch.equal(whole.points, start.points)


@pytest.mark.parametrize("name", VARIANTS)
def test_company_changes_no_bit(name):
    """Simplices optimised together, from different epochs, end as each does alone."""
    settings = SimplexSettings(epochs=30, **VARIANTS[name])
    objective = hill()
    starts = []
    for height in (0.0, 0.2, 1.5):
        vertices = around_an_axis(3, height)
        around = simplex_boundary(objective, vertices, flat_faces(vertices, settings), settings)
        starts += begin_simplices(
            objective, [around.points], [max(around.maxima.values())], 2, settings
        )
    (starts[1],) = advance_simplices(objective, [starts[1]], settings, 5, until_epoch=4)
    alone = [
        advance_simplices(objective, [start], settings, 5, until_epoch=30)[0] for start in starts
    ]
    together = advance_simplices(objective, starts, settings, 5, until_epoch=30)
    for first, second in zip(alone, together, strict=True):
        same(first, second)


@pytest.mark.parametrize("rate", [0.01, 0.02])
def test_a_simplex_that_is_thrown_away_has_not_converged(rate):
    """Momentum on exact gradients ends far above the start, whose value is kept: no CONVERGED, no 0."""
    settings = SimplexSettings(
        epochs=200,
        schedule=Schedule("constant"),
        optimizer=OptimizerSettings("momentum", lr=rate),
        max_move=None,
    )
    steep = from_function(
        lambda x: (
            40 * (1 + (x[:, -1] - 0.7) ** 2) * torch.exp(-x[:, :-1].square().sum(1))
            + 0.1 * x.square().sum(1).square()
        )
    )
    vertices = around_an_axis(3)
    result = optimize_simplex(steep, vertices, flat_faces(vertices, settings), settings)
    assert result.history[-1].dense_maximum > 1.1 * result.value
    assert result.outcome is not Outcome.CONVERGED
    assert result.remaining_fall > 1
    assert "lower the learning rate" in result.reason


def test_divergence_is_an_outcome():
    """A loss that is not finite on the starting simplex is reported and not optimised."""
    objective = from_function(lambda x: (1 - x.square().sum(1)).log())
    vertices = 0.5 * around_an_axis(3)
    result = optimize_simplex(objective, vertices, flat_faces(vertices, SimplexSettings()))
    assert result.outcome is Outcome.DIVERGED
    assert "not finite" in result.reason


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v, f: (v[:2], f), "optimize_path"),
        (lambda v, f: (v, {k: f[k] for k in [(0, 1), (0, 2)]}), r"\(1, 2\) is missing"),
        (lambda v, f: (v, {**f, (0, 1): f[0, 1].flip(0)}), "reverse paths"),
        (lambda v, f: (v, {**f, (0, 1): f[0, 1].float()}), "float32"),
    ],
)
def test_faces_that_do_not_fit_are_refused(change, message):
    """The message says which face is wrong and how to mend it."""
    vertices = around_an_axis(3)
    vertices, faces = change(vertices, flat_faces(vertices, SimplexSettings()))
    with pytest.raises(ValueError, match=message):
        optimize_simplex(hill(), vertices, faces)


def test_triangles_that_do_not_share_their_edges_are_refused():
    """The faces of a tetrahedron must be made from the same paths."""
    settings = SimplexSettings()
    vertices = around_an_axis(4)
    faces = exact_faces(vertices, settings)
    moved = faces[0, 1, 2].clone()
    moved[1] += 0.01
    with pytest.raises(ValueError, match="does not meet the other faces"):
        optimize_simplex(hill(), vertices, {**faces, (0, 1, 2): moved}, settings)


@pytest.mark.parametrize(
    ("key", "value"),
    [("subdivisions", 1), ("epochs", 0), ("max_move", 0.0), ("l2", -1.0), ("evaluate_every", 0)],
)
def test_settings_are_checked(key, value):
    """An impossible number is refused by its key."""
    with pytest.raises(ValueError, match=f"{key} is {value}"):
        SimplexSettings(**{key: value})
