"""Hessian–vector products of fully connected networks against differentiating twice by autograd."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from topo_core.objectives.batching.protocol import Network
from topo_core.objectives.curvature import central_difference_products
from topo_core.objectives.linear_curvature import LinearCurvature, is_supported
from topo_core.objectives.loss_registry import LOSSES
from topo_core.objectives.losses import CrossEntropy, UserLoss
from topo_core.objectives.network_curvature import NetworkCurvature, curvature_of
from topo_core.objectives.network_loss import ModuleObjective


def network(activation, hidden, loss):
    """[Flatten,] Linear, activation, …, Linear from 2 x 3 inputs to 4 outputs, in float64."""
    widths = [6, *hidden, 4]
    layers = [nn.Flatten()]
    for first, last in pairwise(widths):
        layers += [nn.Linear(first, last), activation()]
    return Network.of(nn.Sequential(*layers[:-1]).double(), loss)


def problem(net, targets, count=5):
    """Points and vectors [count, d], inputs of more than one chunk, and their targets."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(1100, 2, 3, dtype=torch.float64, generator=draw)
    points, vectors = torch.randn(
        2, count, net.layout.dimension, dtype=torch.float64, generator=draw
    )
    if targets == "classes":
        return points, vectors, inputs, torch.randint(4, (1100,), generator=draw)
    return points, vectors, inputs, torch.rand(1100, 4, dtype=torch.float64, generator=draw)


@pytest.mark.parametrize(
    ("activation", "hidden", "loss", "targets"),
    [
        (nn.Tanh, (5,), CrossEntropy(), "classes"),
        (nn.GELU, (5, 3), CrossEntropy(label_smoothing=0.1), "classes"),
        (nn.Softplus, (4, 5, 3), LOSSES["mse"](), "numbers"),
        (nn.ReLU, (5, 4), LOSSES["bce"](), "numbers"),
        (nn.Sigmoid, (), CrossEntropy(), "classes"),
    ],
)
def test_products_are_those_of_autograd(activation, hidden, loss, targets):
    """For every depth, smooth and piecewise linear activations, and losses with and without curvature."""
    net = network(activation, hidden, loss)
    given = problem(net, targets)
    assert isinstance(curvature_of(net, given[2]), LinearCurvature)
    expected = NetworkCurvature(net).products(*given)
    torch.testing.assert_close(
        LinearCurvature(net).products(*given), expected, rtol=1e-11, atol=1e-13
    )


def test_vectors_at_one_point_share_its_work():
    """Products with many vectors at one point, and at points that come again, are those of single calls."""
    net = network(nn.Tanh, (5,), CrossEntropy())
    points, vectors, inputs, targets = problem(net, "classes", count=23)
    mixed = points[[0] * 18 + [1, 0, 0, 2, 1]]
    curvature = LinearCurvature(net)
    together = curvature.products(mixed, vectors, inputs, targets)
    single = [
        LinearCurvature(net).products(p[None], v[None], inputs, targets)
        for p, v in zip(mixed, vectors, strict=True)
    ]
    torch.testing.assert_close(together, torch.cat(single), rtol=1e-12, atol=1e-14)


def test_what_is_kept_belongs_to_a_point_and_its_data():
    """Other inputs at the same point, and a point that was changed in place, are evaluated anew."""
    net = network(nn.Tanh, (5,), CrossEntropy())
    points, vectors, inputs, targets = problem(net, "classes", count=1)
    curvature = LinearCurvature(net)
    first = curvature.products(points, vectors, inputs, targets)
    other = curvature.products(points, vectors, 2 * inputs, targets)
    points += 0.1
    moved = curvature.products(points, vectors, inputs, targets)
    assert not torch.allclose(first, other) and not torch.allclose(first, moved)
    torch.testing.assert_close(
        moved, NetworkCurvature(net).products(points, vectors, inputs, targets)
    )


def test_a_loss_without_a_second_derivative_says_so():
    """As autograd does, so that the caller takes central differences."""

    def distance(outputs, targets):
        gaps = torch.cdist(outputs, targets, compute_mode="donot_use_mm_for_euclid_dist")
        return gaps.diagonal()

    net = network(nn.Tanh, (3,), UserLoss(distance))
    with pytest.raises(NotImplementedError):
        LinearCurvature(net).products(*problem(net, "numbers", count=1))


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Linear(6, 4, bias=False)),
        nn.Sequential(nn.Linear(6, 5), nn.Softmax(dim=1), nn.Linear(5, 4)),
        nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.5), nn.Linear(5, 4)),
        nn.Sequential(nn.Linear(6, 5), nn.Tanh()),
        nn.Sequential(nn.Linear(6, 5), nn.PReLU(), nn.Linear(5, 4)),
        nn.Bilinear(2, 3, 4),
    ],
)
def test_other_networks_are_left_to_autograd(module):
    """Layers without biases, activations that mix numbers or have parameters, and other modules."""
    assert not is_supported(Network.of(module, CrossEntropy()), torch.zeros(2, 6))


def test_examples_of_several_rows_are_left_to_autograd():
    """Without a flattening the layers map each row of features of an example; products were refused there."""
    draw = torch.Generator().manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    inputs, targets = torch.randn(2, 7, 5, 3, dtype=torch.float64, generator=draw)
    objective = ModuleObjective(
        module, inputs, targets[..., :2], batch_size=7, loss=LOSSES["mse"]()
    )
    points, vectors = torch.randn(2, 1, objective.dimension, dtype=torch.float64, generator=draw)
    torch.testing.assert_close(
        objective.hessian_vector_products(points, vectors),
        central_difference_products(objective, points, vectors),
        rtol=1e-6,
        atol=1e-8,
    )
