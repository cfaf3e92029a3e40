"""Continuous symmetries of networks, and the zero modes that they explain."""

import pytest
import torch
from torch import nn

from tests.topo_core.symmetries.test_network_symmetries import CASES, drawn, inputs, perceptron
from topo_core.critical_points.classification import classify_point
from topo_core.critical_points.minima import polish_minimum
from topo_core.critical_points.verdicts import Verdict
from topo_core.objectives.losses import Ridge
from topo_core.objectives.network_loss import ModuleObjective
from topo_core.objectives.protocol import from_function
from topo_core.random_streams import generator
from topo_core.symmetries.continuous import exact_families, families, network_tangents
from topo_core.symmetries.network_symmetries import NetworkSymmetries
from topo_core.symmetries.tracing import traced_units


def objective_of(name, ridge):
    """The network of a case and its loss on random classes."""
    build, kind, _ = CASES[name]
    module, examples = build().double(), inputs(kind)
    draw = generator("targets", name)
    with torch.no_grad():
        outputs = module(examples)
    classes = outputs.shape[-1]
    targets = torch.randint(0, classes, outputs.shape[:-1], generator=draw)
    loss = ModuleObjective(
        module, examples, targets, batch_size=9, ridge=Ridge(ridge) if ridge else None
    )
    return module, loss


ALWAYS = {
    "tanh": set(),
    "relu": {"the rescaling of ReLU units"},
    "transformer": {
        "the rescaling of linear units",
        "linear maps of queries and keys",
        "linear maps of values and outputs",
        "rotations of queries and keys",
        "rotations of values and outputs",
        "shifts of biases of keys",
        "shifts of biases of values",
        "shifts of biases between linear layers",
        "shifts of means before layer norm",
    },
    "depthwise": {"the rescaling of ReLU units", "shifts of biases before batch norm"},
}


@pytest.mark.parametrize("name", ALWAYS)
def test_no_gradient_along_a_symmetry(name):
    """At a random point the gradient is orthogonal to all tangents; outputs of a softmax can be shifted."""
    module, objective = objective_of(name, 0.0)
    point = 0.5 * drawn(module, name)
    named = network_tangents(module, objective)(point)
    assert set(named) == ALWAYS[name] | {"shifts of weights of the outputs"}
    gradient = objective.full_gradient(point)
    for rows in named.values():
        sizes = rows.norm(dim=1) * gradient.norm()
        assert float(((rows @ gradient).abs() / sizes.clamp_min(1e-30)).max()) < 1e-10


@pytest.mark.parametrize("name", ["relu", "transformer"])
def test_a_ridge_leaves_rotations_alone(name):
    """It breaks scales and shifts, and keeps what does not change the norm of the parameters."""
    module, objective = objective_of(name, 1e-2)
    named = network_tangents(module, objective)(0.5 * drawn(module, name))
    kept = {one for one in ALWAYS[name] if "rotations" in one}
    assert set(named) == kept


def test_squared_errors_see_a_shift_of_the_outputs():
    """Only a softmax does not."""
    module = perceptron(nn.Tanh, 3, 4, 2).double()
    targets = torch.randn(9, 2, generator=generator("targets"), dtype=torch.float64)

    def loss(points):
        w, b = points[:, :12].reshape(-1, 4, 3), points[:, 12:16]
        v, c = points[:, 16:24].reshape(-1, 2, 4), points[:, 24:]
        hidden = torch.tanh(inputs("flat") @ w.mT + b[:, None])
        return (hidden @ v.mT + c[:, None] - targets).square().mean((1, 2))

    candidates = families(traced_units(module))
    assert [one.name for one in candidates] == ["shifts of weights of the outputs"] * 2
    assert exact_families(from_function(loss), candidates, drawn(module, 1)) == []


def test_scalings_explain_the_zero_modes_of_a_relu_network():
    """Without a ridge each hidden unit of a ReLU network has one direction of equal loss, and the verdict
    says so.
    """
    module = perceptron(nn.ReLU, 2, 2, 1)
    examples = torch.tensor([[1.0, 0.5], [0.3, 1.0], [0.8, 0.9]], dtype=torch.float64)
    hidden = torch.tensor([[1.0, 0.2], [0.3, 1.1]], dtype=torch.float64)

    def loss(points):
        w, b = points[:, :4].reshape(-1, 2, 2), points[:, 4:6]
        v, c = points[:, 6:8], points[:, 8]
        h = torch.relu(examples @ w.transpose(1, 2) + b[:, None])
        out = (h * v[:, None]).sum(2) + c[:, None]
        wanted = torch.relu(examples @ hidden.T).sum(1)
        # Weights of the offsets keep them, and the functions of the units, apart.
        offsets = points[:, 4:6] / points[:, [0, 3]] - 0.1
        return ((out - wanted) ** 2).mean(1) + offsets.square().sum(1)

    start = torch.tensor([1.0, 0.3, 0.2, 1.2, 0.1, 0.1, 1.0, 1.0, 0.0], dtype=torch.float64)
    objective = from_function(loss)
    symmetries = network_tangents(module, objective)
    found = polish_minimum(objective, start, symmetries=symmetries)
    assert found.verdict is Verdict.FLAT
    assert found.explained_modes == {"the rescaling of ReLU units": 2}
    assert (
        f"{found.zero_modes} directions without curvature: 2 explained by the rescaling of"
        in str(found)
    )
    alone = classify_point(objective, found.point)
    assert alone.zero_modes == found.zero_modes and alone.symmetry_modes == 0


@pytest.mark.parametrize("ridge", [0.0, 1e-2])
def test_inputs_that_no_example_has_explain_zero_modes(ridge):
    """Regression on four inputs, of which one is constant and one the sum of two others.

    For each of two outputs, two directions of its weights change nothing. A softmax does not see five shifts,
    of which two are among these four directions. A ridge leaves none.
    """
    module, draw = nn.Linear(4, 2).double(), generator("inputs that no example has")
    examples = torch.randn(40, 4, generator=draw, dtype=torch.float64)
    examples[:, 2], examples[:, 3] = 0.5, examples[:, 0] + examples[:, 1]
    targets = torch.randint(0, 2, (40,), generator=draw)
    objective = ModuleObjective(
        module, examples, targets, batch_size=40, ridge=Ridge(ridge) if ridge else None
    )
    symmetries = network_tangents(module, objective, examples)
    found = polish_minimum(objective, drawn(module, "regression"), symmetries=symmetries)
    if ridge:
        assert found.verdict is Verdict.MINIMUM and found.zero_modes == 0
    else:
        assert found.verdict is Verdict.FLAT and found.zero_modes == found.symmetry_modes == 7
        assert found.explained_modes == {
            "shifts of weights of the outputs": 5,
            "combinations of inputs that are zero in all examples": 2,
        }
        assert found.eigenvalues[0] > found.residuals[0] and "0 unexplained" in str(found)


class Heads(nn.Module):
    """Attention between linear layers, without layer norm, whose inputs a ridge drives to zero."""

    def __init__(self):
        super().__init__()
        self.first, self.attention = nn.Linear(3, 4), nn.MultiheadAttention(4, 2, batch_first=True)
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        x = torch.tanh(self.first(x))
        return self.last((x + self.attention(x, x, x, need_weights=False)[0]).mean(1))


@pytest.mark.slow
def test_trained_heads():
    """Minima of a network with attention and a ridge: flat along the rotations of its heads and nowhere else.

    A random copy of a minimum is recognised, and another minimum is not.
    """
    module, draw = Heads().double(), generator("heads")
    examples = torch.randn(30, 4, 3, generator=draw, dtype=torch.float64)
    targets = (examples[:, 0, 0] * examples.mean((1, 2)) > 0).long()
    objective = ModuleObjective(module, examples, targets, batch_size=30, ridge=Ridge(1e-3))
    symmetries = network_tangents(module, objective)
    one, other = (
        polish_minimum(objective, drawn(module, "heads", k), symmetries=symmetries) for k in (0, 1)
    )
    for found in (one, other):
        assert found.verdict is Verdict.FLAT and found.zero_modes == found.symmetry_modes > 0
        assert set(found.explained_modes) <= {
            "rotations of queries and keys",
            "rotations of values and outputs",
        }
        assert found.eigenvalues[0] > found.residuals[0]
    assert abs(one.loss - other.loss) > 1e-6
    copies = NetworkSymmetries.of(module, examples, ridge=True)
    points = torch.stack([one.point, other.point, copies.random_copy(one.point, draw)])
    assert copies.copy_classes(points, [0.0, 0.0, 0.0]) == [0, 1, 0]
