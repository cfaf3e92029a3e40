"""torchvision's classifiers by name, and what cannot be a loss is refused before anything runs."""

import sys

import pytest
import torch

from topo_core.objectives.protocol import Step
from workers.problems.dataset import Dataset
from workers.problems.evaluation import Evaluation
from workers.problems.loaded_problem import load_problem
from workers.problems.networks import build, count_parameters, network_fingerprint
from workers.problems.torchvision_import import models, version
from workers.problems.user_code import BadReference
from workers.tasks.problem import Problem
from workers.tasks.specs import DataSpec, NetworkSpec

DATA = "colours"
MODULE = """
import torch
def load():
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(8, 3, 32, 32, generator=draw)
    labels = torch.arange(8) % 4
    return images, labels, images, labels
"""


@pytest.fixture(autouse=True)
def users_module(tmp_path, monkeypatch):
    (tmp_path / "colours.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "colours", raising=False)


def load(name, **options):
    network = NetworkSpec.parse({"name": name, **options})
    return load_problem(
        Problem(network, DataSpec("colours:load"), "data", network_fingerprint(network)),
        Evaluation(),
    )


def test_resnet18_counts():
    """ResNet-18 has the parameters that torchvision states, less those of the classes it lacks here."""
    module = build(NetworkSpec("torchvision:resnet18"), (3, 32, 32), 10)
    stated = models.ResNet18_Weights.DEFAULT.meta["num_params"]
    assert count_parameters(module) == stated - 990 * 513


def test_a_classifier_is_a_loss():
    """Losses and gradients of a torchvision network come out as those of any other, and from the seed."""
    loaded = load("torchvision:squeezenet1_1", dropout=0.0)
    assert isinstance(loaded.data, Dataset)
    point = loaded.initial_point(1)
    assert torch.equal(point, loaded.initial_point(1))
    losses, gradients = loaded.objective(4).gradients(point[None], Step(0, 0, 0))
    assert losses.isfinite().all() and gradients.abs().max() > 0


def test_its_version_is_part_of_the_question():
    """Another torchvision may build another network under the same name."""
    assert network_fingerprint(NetworkSpec("torchvision:resnet18")) == f"torchvision:{version}"


@pytest.mark.parametrize(
    ("name", "options", "names"),
    [
        ("torchvision:resnet81", {}, "did you mean torchvision:resnet18?"),
        ("torchvision:nothing_like_it", {}, "it has alexnet"),
        ("torchvision:resnet18", {"depth": 3}, "unexpected keyword argument 'depth'"),
        ("torchvision:squeezenet1_1", {}, "draws random numbers in training (dropout?)"),
        ("transformer", {}, "it reads windows of characters"),
    ],
)
def test_refusals(name, options, names):
    """One sentence with the name and what is wrong."""
    with pytest.raises(BadReference) as refused:
        load(name, **options)
    assert name in str(refused.value) and names in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "options", "names"),
    [
        ("cnn1", {"channels": "many"}, "network.channels is 'many'; it must be a whole number"),
        ("fc", {"hidden": 3}, "network.hidden is 3; it must be a list"),
        ("transformer", {"heads": 0}, "network.heads is 0; it must be a whole number above 0"),
    ],
)
def test_impossible_options(name, options, names):
    """One sentence with the key, its value and what it must be, before anything is built."""
    with pytest.raises(ValueError) as refused:
        NetworkSpec.parse({"name": name, **options})
    assert names in str(refused.value)


def test_impossible_transformers():
    """Heads share the width."""
    with pytest.raises(BadReference) as refused:
        build(NetworkSpec.parse({"name": "transformer", "heads": 3}), (8,), 20)
    assert "network.width must be a multiple of network.heads, 3" in str(refused.value)
