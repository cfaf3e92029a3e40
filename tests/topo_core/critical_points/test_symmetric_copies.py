"""Copies of a network's parameters under its exact symmetries."""

import itertools

import pytest
import torch
from torch import nn

from topo_core.critical_points.classification import classify_point
from topo_core.critical_points.minima import polish_minimum
from topo_core.critical_points.symmetric_copies import NetworkSymmetries
from topo_core.critical_points.verdicts import Verdict
from topo_core.objectives.protocol import from_function
from topo_core.random_streams import generator


def perceptron(activation, *sizes):
    layers = []
    for inputs, units in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, units), activation()]
    return nn.Sequential(*layers[:-1]).double()


class Residual(nn.Module):
    """A layer whose two axes belong to one group of units."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 4)
        self.last = nn.Linear(4, 2)
        self.double()

    def forward(self, x):
        x = torch.tanh(self.first(x))
        return self.last(x + torch.tanh(self.second(x)))


def drawn(module, *names):
    count = sum(p.numel() for p in module.parameters())
    return torch.randn(count, generator=generator("copies", *names), dtype=torch.float64)


def outputs(module, flat):
    parts, first = {}, 0
    for name, p in module.named_parameters():
        parts[name] = flat[first : first + p.numel()].reshape(p.shape)
        first += p.numel()
    inputs = torch.randn(9, 3, generator=generator("inputs"), dtype=torch.float64)
    return torch.func.functional_call(module, parts, (inputs,))


def copied(symmetries, point, draw):
    """A random symmetry applied to ``point``."""
    point = point.clone()
    for group in symmetries.groups:
        order = torch.randperm(group.size, generator=draw)
        signs = torch.randint(0, 2, (group.size,), generator=draw).double() * 2 - 1
        scales = torch.rand(group.size, generator=draw, dtype=torch.float64) + 0.5
        for places in (*group.incoming, *group.outgoing):
            point[places] = point[places[order]]
            if group.odd:
                point[places] = signs[:, None] * point[places]
        if group.homogeneous:
            for places in group.incoming:
                point[places] = scales[:, None] * point[places]
            for places in group.outgoing:
                point[places] = point[places] / scales[:, None]
    return point


CASES = {
    "tanh": (lambda: perceptron(nn.Tanh, 3, 6, 5, 2), True),
    "relu with a ridge": (lambda: perceptron(nn.ReLU, 3, 6, 5, 2), True),
    "relu": (lambda: perceptron(nn.ReLU, 3, 6, 5, 2), False),
    "gelu": (lambda: perceptron(nn.GELU, 3, 6, 5, 2), False),
    "residual tanh": (Residual, False),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_copies_are_recognised_and_others_are_not(name, seed):
    """A random symmetry keeps the outputs and is undone; another network stays another."""
    build, ridge = CASES[name]
    module = build()
    symmetries = NetworkSymmetries.of(module, ridge=ridge)
    point, draw = drawn(module, seed), generator("symmetry", name, seed)
    copy = copied(symmetries, point, draw)
    assert float((copy - point).norm()) > 0.1
    torch.testing.assert_close(outputs(module, copy), outputs(module, point))
    assert symmetries.distance(point, copy) < 1e-12
    aligned = symmetries.aligned(point, drawn(module, seed, "other"))
    torch.testing.assert_close(
        outputs(module, aligned), outputs(module, drawn(module, seed, "other"))
    )
    assert symmetries.distance(point, drawn(module, seed, "other")) > 0.1


def test_which_symmetries_a_network_has():
    """Signs behind tanh, scales behind ReLU without a ridge, neither behind GELU."""
    for activation, ridge, odd, homogeneous in [
        (nn.Tanh, False, True, False),
        (nn.ReLU, False, False, True),
        (nn.ReLU, True, False, False),
        (nn.GELU, False, False, False),
    ]:
        (group,) = NetworkSymmetries.of(perceptron(activation, 3, 4, 2), ridge=ridge).groups
        assert (group.odd, group.homogeneous) == (odd, homogeneous)


def test_classes_join_copies_of_equal_loss_only():
    """Three copies of one point and one of another are two classes, named by their first members."""
    module = perceptron(nn.Tanh, 3, 6, 2)
    symmetries = NetworkSymmetries.of(module, ridge=True)
    first, second, draw = drawn(module, 1), drawn(module, 2), generator("classes")
    points = torch.stack(
        [
            copied(symmetries, first, draw),
            second,
            first,
            copied(symmetries, second, draw),
            copied(symmetries, first, draw),
        ]
    )
    assert symmetries.copy_classes(points, [0.5, 0.7, 0.5, 0.7, 0.5]) == [0, 1, 0, 1, 0]
    # Points that look alike with different losses are on different landscapes' heights: no copies.
    assert symmetries.copy_classes(points, [0.1, 0.2, 0.3, 0.4, 0.5]) == [0, 1, 2, 3, 4]


def test_scalings_explain_the_zero_modes_of_a_relu_network():
    """Without a ridge each hidden unit of a ReLU network has one direction of equal loss."""
    module = perceptron(nn.ReLU, 2, 2, 1)
    inputs = torch.tensor([[1.0, 0.5], [0.3, 1.0], [0.8, 0.9]], dtype=torch.float64)
    hidden = torch.tensor([[1.0, 0.2], [0.3, 1.1]], dtype=torch.float64)

    def loss(points):
        w, b = points[:, :4].reshape(-1, 2, 2), points[:, 4:6]
        v, c = points[:, 6:8], points[:, 8]
        h = torch.relu(inputs @ w.transpose(1, 2) + b[:, None])
        out = (h * v[:, None]).sum(2) + c[:, None]
        wanted = torch.relu(inputs @ hidden.T).sum(1)
        # Weights of the offsets keep them, and the functions of the units, apart.
        return ((out - wanted) ** 2).mean(1) + (
            points[:, 4:6] / points[:, [0, 3]] - 0.1
        ).square().sum(1)

    start = torch.tensor([1.0, 0.3, 0.2, 1.2, 0.1, 0.1, 1.0, 1.0, 0.0], dtype=torch.float64)
    objective = from_function(loss)
    point = polish_minimum(objective, start).point
    tangents = NetworkSymmetries.of(module, ridge=False).scaling_tangents(point)
    assert tangents.shape == (2, 9)
    images = objective.hessian_vector_products(point.expand(2, -1), tangents)
    assert float(images.abs().max()) < 1e-6
    found = classify_point(objective, point, symmetries=tangents)
    assert found.verdict is Verdict.FLAT and found.symmetry_modes >= 2
