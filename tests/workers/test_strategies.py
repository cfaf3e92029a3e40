"""Every way to evaluate the paper's networks gives the numbers of a plain loop over the points."""

import pytest
import torch

from topo_core.draws import generator
from topo_core.objective import Step
from topo_core.stacked import ModuleObjective, possible_strategies
from workers.networks import build, count_parameters
from workers.specs import NetworkSpec

SHAPE, CLASSES = (2, 16, 16), 4
NETWORKS = {
    "fc": {"hidden": [8, 6]},
    "cnn1": {"channels": 3},
    "cnn2": {"channels": 3},
    "cnn3": {"channels": 3},
    "cnn2 with batch norm": {"channels": 3, "batch_norm": True},
    "resnet": {},
    "resnet_e7": {},
}


def network(name):
    spec = NetworkSpec.parse({"name": name.split()[0], **NETWORKS[name]})
    return build(spec, SHAPE, CLASSES, seed=1).double()


CASES = [
    (name, strategy)
    for name in NETWORKS
    for strategy in possible_strategies(network(name))
    if strategy != "literal"
]


def objective(name, strategy):
    draw = generator("images")
    inputs = torch.randn(70, *SHAPE, generator=draw, dtype=torch.float64)
    targets = torch.randint(CLASSES, (70,), generator=draw)
    return ModuleObjective(network(name), inputs, targets, batch_size=40, strategy=strategy)


def points(name, k):
    """Points near initial weights, where no unit of a layer is dead."""
    start = torch.nn.utils.parameters_to_vector(network(name).parameters()).detach()
    noise = torch.randn(k, count_parameters(network(name)), generator=generator("noise")).double()
    return start + 0.05 * noise


@pytest.mark.parametrize(("name", "strategy"), CASES)
def test_gradients_agree(name, strategy):
    """Losses and gradients in float64 are those of the literal loop; kinks do not matter there."""
    rows, step = points(name, 2), Step(1, 0, 1)
    losses, gradients = objective(name, strategy).gradients(rows, step)
    expected, slopes = objective(name, "literal").gradients(rows, step)
    assert torch.allclose(losses, expected, rtol=1e-12)
    assert float((gradients - slopes).norm() / slopes.norm()) < 1e-12


@pytest.mark.parametrize(("name", "strategy"), CASES)
def test_losses_agree(name, strategy):
    """Losses over the whole set, batch norm recomputed at each point, are those of the loop."""
    rows = points(name, 2)
    alphas = torch.tensor([[0.0, 0.3, 1.0]]).double()
    found = objective(name, strategy).losses_on_segments(rows[:1], rows[1:], alphas)
    expected = objective(name, "literal").losses_on_segments(rows[:1], rows[1:], alphas)
    assert torch.allclose(found, expected, rtol=1e-12)
