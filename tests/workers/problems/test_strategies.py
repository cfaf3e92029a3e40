"""Every way to evaluate the paper's networks gives the numbers of a plain loop over the points."""

import copy

import pytest
import torch
from torch import nn

from topo_core.objectives import network_loss as stacked
from topo_core.objectives.batching.registry import STRATEGIES
from topo_core.objectives.network_loss import ModuleObjective
from topo_core.objectives.network_loss import strategies as possible
from topo_core.objectives.protocol import Step
from topo_core.random_streams import generator
from workers.problems.networks import build, count_parameters
from workers.tasks.specs import NetworkSpec

SHAPE, CLASSES = (2, 16, 16), 4
NETWORKS = {
    "fc": {"hidden": [8, 6]},
    "cnn1": {"channels": 3},
    "cnn2": {"channels": 3},
    "cnn3": {"channels": 3},
    "cnn2 with batch norm": {"channels": 3, "batch_norm": True},
    "resnet": {},
    "resnet_e7": {},
    "uneven": {},
}


# Kernels and pools of all kinds: strided, not square, of one pixel, dilated; windows that overlap and not.
UNEVEN = nn.Sequential(
    nn.Conv2d(2, 3, (3, 1), stride=(2, 1), padding=(1, 0)),
    nn.ReLU(),
    nn.MaxPool2d(3, 2),
    nn.Conv2d(3, 4, 1),
    nn.MaxPool2d(2),
    nn.ReLU(),
    nn.Conv2d(4, 2, 3, padding=2, dilation=2),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(6, CLASSES),
)


def network(name):
    if name == "uneven":
        return copy.deepcopy(UNEVEN).double()
    spec = NetworkSpec.parse({"name": name.split()[0], **NETWORKS[name]})
    return build(spec, SHAPE, CLASSES, seed=1).double()


def data():
    draw = generator("images")
    inputs = torch.randn(70, *SHAPE, generator=draw, dtype=torch.float64)
    return inputs, torch.randint(CLASSES, (70,), generator=draw)


def strategies(name):
    """Those of a CPU, and those of a GPU, whose arithmetic can be done here too."""
    offered = (
        strategy
        for device in ("cpu", "cuda")
        for strategy in possible(network(name), *data(), device=device)
    )
    return [strategy for strategy in dict.fromkeys(offered) if strategy != "literal"]


CASES = [(name, strategy) for name in NETWORKS for strategy in strategies(name)]


@pytest.fixture(autouse=True)
def _everywhere(monkeypatch):
    """Every strategy is allowed here, whatever the device it is meant for."""
    names = tuple(STRATEGIES)
    monkeypatch.setattr(stacked, "possible_strategies", lambda *given: names)


def objective(name, strategy, device="cpu"):
    inputs, targets = (tensor.to(device) for tensor in data())
    module = network(name).to(device)
    return ModuleObjective(module, inputs, targets, batch_size=40, strategy=strategy)


def points(name, k):
    """Points near initial weights, where no unit of a layer is dead."""
    start = nn.utils.parameters_to_vector(network(name).parameters()).detach()
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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("name", "strategy"),
    [(n, s) for n in NETWORKS for s in possible(network(n), *data(), device="cuda")],
)
def test_gradients_agree_on_a_gpu(name, strategy):
    """Gradients agree for points anywhere in memory and for several paths in one call."""
    rows, step = points(name, 4), Step(1, 0, 1)
    on_gpu = objective(name, strategy, "cuda")
    losses, gradients = on_gpu.gradients(rows[1:3].cuda(), step)
    paths = on_gpu.gradients_of_paths(rows.cuda().view(2, 2, -1), [step, Step(2, 0, 1)])[1]
    expected, slopes = objective(name, "literal").gradients(rows, step)
    assert torch.allclose(losses.cpu(), expected[1:3], rtol=1e-11)
    assert float((gradients.cpu() - slopes[1:3]).norm() / slopes[1:3].norm()) < 1e-11
    assert float((paths[0].cpu() - slopes[:2]).norm() / slopes[:2].norm()) < 1e-11


@pytest.mark.parametrize(("name", "strategy"), CASES)
def test_losses_agree(name, strategy):
    """Losses over the whole set, batch norm recomputed at each point, are those of the loop."""
    rows = points(name, 2)
    alphas = torch.tensor([[0.0, 0.3, 1.0]]).double()
    found = objective(name, strategy).losses_on_segments(rows[:1], rows[1:], alphas)
    expected = objective(name, "literal").losses_on_segments(rows[:1], rows[1:], alphas)
    assert torch.allclose(found, expected, rtol=1e-12)
