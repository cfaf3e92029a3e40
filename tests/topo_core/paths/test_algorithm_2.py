"""The ``paper`` mode against the text of Algorithms 2 and 3, written out as loops."""

import itertools

import pytest
import torch

from tests.helpers.tiny_network import TinyNetwork
from topo_core.objectives.protocol import Step
from topo_core.paths.insertion_settings import Insertion
from topo_core.paths.polyline import line
from topo_core.paths.schedules import Schedule
from topo_core.paths.settings import PathSettings
from topo_core.paths.solver import PathSolver
from topo_core.paths.update_settings import OptimizerSettings
from topo_core.random_streams import generator
from topo_core.reference_landscapes.surfaces import embedded, muller_brown

L2 = 1e-5


def unit(a, b):
    return (a - b) / (a - b).norm()


def literal(objective, points, lr, epochs, *, first=0, jacobi=False):
    """Algorithm 2, STEP for each minibatch: one point at a time, in place."""
    path = [point.clone() for point in points]
    for epoch in range(first, first + epochs):
        for batch in range(objective.batches):
            old = [point.clone() for point in path] if jacobi else path
            i = 1
            while i < len(path) - 1:
                left, centre, right = old[i - 1], old[i], old[i + 1]
                _, gradients = objective.gradients(centre[None], Step(0, epoch, batch))
                g = gradients[0] + L2 * centre
                from_left = g.dot(unit(centre, left)) * unit(centre, left)
                from_right = g.dot(unit(right, centre)) * unit(right, centre)
                path[i] = centre - lr * (g - (from_left + from_right) / 2)
                i += 1
    return torch.stack(path)


def analytic():
    landscape = muller_brown()
    objective = embedded(landscape.objective, 50, seed=1)
    ends = objective.lift(landscape.minima[:2])
    return objective, ends, 2e-5, 50


def network():
    objective = TinyNetwork()
    return objective, torch.stack([objective.minimum(0), objective.minimum(1)]), 0.05, 17


def paper_mode(objective, points, lr, epochs, **changes):
    settings = PathSettings(
        points=len(points),
        force="paper",
        epochs=epochs,
        optimizer=OptimizerSettings(lr=lr),
        l2=L2,
        **changes,
    )
    solver = PathSolver(objective, settings)
    state = solver.begin(points)
    return solver.advance(state, 0, until_epoch=epochs)


def bent(ends, count):
    """A line with noise: on a straight line the two projections would be one."""
    points = line(ends[0], ends[1], count)
    noise = torch.randn(points.shape, generator=generator("bent"), dtype=points.dtype)
    points[1:-1] += 0.3 * (ends[1] - ends[0]).norm() / points.shape[1] ** 0.5 * noise[1:-1]
    return points


@pytest.mark.parametrize("case", [analytic, network])
def test_paper_is_the_literal_loop(case):
    """Fifty steps of ``paper`` equal Algorithm 2 as written to 1e-12 in float64."""
    objective, ends, lr, epochs = case()
    points = bent(ends, 9)
    expected = literal(objective, points, lr, epochs)
    actual = paper_mode(objective, points, lr, epochs).points
    assert (expected - points).norm() > 0.05 * points.norm()
    assert (actual - expected).norm() <= 1e-12 * expected.norm()


@pytest.mark.parametrize("case", [analytic, network])
def test_order_of_updates_matters(case):
    """Moving all points at once (Jacobi) gives another path: the loop is Gauss-Seidel."""
    objective, ends, lr, epochs = case()
    points = bent(ends, 9)
    jacobi = literal(objective, points, lr, epochs, jacobi=True)
    actual = paper_mode(objective, points, lr, epochs).points
    assert (actual - jacobi).norm() > 1e-8 * jacobi.norm()


def literal_insertion(objective, path, chord, criterion, threshold):
    """Algorithm 3 on a list of points, with the decisions on its slips; returns (path, B)."""
    mu = chord / (len(path) - 1)
    top = max(objective.losses(torch.stack(path)).tolist())
    scores = []
    for a, b in itertools.pairwise(path):
        if criterion == "distance":
            scores.append(float((a - b).norm()) / mu)
        else:
            inside = torch.stack([(1 - s) * a + s * b for s in (0.2, 0.4, 0.6, 0.8)])
            scores.append(float(objective.losses(inside).max()) / top)
    if max(scores) <= threshold:
        return path, []
    order = sorted(range(len(scores)), key=lambda i: -scores[i])[:2]
    for i in sorted((i for i in order if scores[i] > threshold), reverse=True):
        path = [*path[: i + 1], (path[i] + path[i + 1]) / 2, *path[i + 1 :]]
    return path[1:-1], [path[0], path[-1]]


@pytest.mark.parametrize(
    ("case", "criterion", "threshold"), [(analytic, "distance", 1.2), (network, "loss", 0.8)]
)
def test_paper_insertion_is_algorithm_3(case, criterion, threshold):
    """With ``ends="paper"`` points are inserted and moved to B as Algorithm 3 says."""
    objective, ends, lr, _ = case()
    points = bent(ends, 9)
    chord = float((points[-1] - points[0]).norm())
    every, rounds = 5, 3
    head, path, tail = [], [point.clone() for point in points], []
    for round_ in range(rounds):
        path = list(literal(objective, torch.stack(path), lr, every, first=round_ * every))
        path, removed = literal_insertion(objective, path, chord, criterion, threshold)
        if removed:
            head, tail = [*head, removed[0]], [removed[1], *tail]
    path = list(literal(objective, torch.stack(path), lr, 1, first=rounds * every))
    state = paper_mode(
        objective,
        points,
        lr,
        every * rounds + 1,
        insertion=Insertion(every, criterion, threshold, ends="paper"),
    )
    expected = torch.stack([*head, *path, *tail])
    assert len(head) >= 1
    assert state.frozen == len(head)
    assert state.points.shape == expected.shape
    assert (state.points - expected).norm() <= 1e-11 * expected.norm()


def test_paper_has_no_hidden_help():
    """``paper`` without settings for them has no redistribution, annealing or bound on moves."""
    resolved = PathSettings(force="paper").resolve(batches=1)
    assert resolved.redistribute_every == 0
    assert resolved.schedule == Schedule("constant")
    assert resolved.max_move is None
    assert resolved.optimizer.name == "sgd"
