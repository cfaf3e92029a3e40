"""The networks of the paper have the parameters that it states, and draw their weights from a seed."""

import pytest
import torch
from torch import nn

from workers.problems.networks import build, count_parameters
from workers.problems.user_code import BadReference
from workers.tasks.specs import NetworkSpec

MNIST, CIFAR = (1, 28, 28), (3, 32, 32)


def spec(name, **options):
    return NetworkSpec.parse({"name": name, **options})


def linear(inputs, outputs):
    return inputs * outputs + outputs


def conv(inputs, outputs, side):
    return inputs * outputs * side * side + outputs


def batch_norm(channels):
    return 2 * channels


@pytest.mark.parametrize("depth", [2, 3, 4, 6, 8])
def test_fully_connected(depth):
    """n layers are n hidden layers of 32 and the output layer (section 2.1)."""
    module = build(spec("fc", hidden=[32] * depth), MNIST, 10)
    expected = linear(784, 32) + (depth - 1) * linear(32, 32) + linear(32, 10)
    assert count_parameters(module) == expected
    assert sum(isinstance(layer, nn.ReLU) for layer in module) == depth


@pytest.mark.parametrize("channels", [32, 64, 128])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("normalised", [False, True])
def test_convolutional(depth, channels, normalised):
    """CNN-n-C of Tables E.8-E.10: n 5x5 convolutions, and Linear(16 C, 10) whatever n is."""
    module = build(spec(f"cnn{depth}", channels=channels, batch_norm=normalised), CIFAR, 10)
    expected = conv(3, channels, 5) + (depth - 1) * conv(channels, channels, 5)
    expected += normalised * depth * batch_norm(channels) + linear(16 * channels, 10)
    assert count_parameters(module) == expected


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("cnn3", {"channels": 32}, 58_826),
        ("resnet", {}, 195_210),
        ("resnet_e7", {}, 234_058),
    ],
)
def test_counts_in_figures(name, options, count):
    """The counts that the text states, or that its tables come to, as plain numbers."""
    assert count_parameters(build(spec(name, **options), CIFAR, 10)) == count


def test_a_narrow_residual_network():
    """With 16 channels replaced by 4, every product of widths is a sixteenth, every width a quarter."""
    narrow = build(spec("resnet", channels=4), CIFAR, 10)
    stages = [(3, 4), (4, 4), (4, 4), (4, 8), (8, 8), (8, 8), (8, 16), *[(16, 16)] * 4]
    expected = sum(conv(a, b, 3) for a, b in stages) + batch_norm(16) + linear(16, 10)
    assert count_parameters(narrow) == expected


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_batch_norm_is_before_the_activation(depth):
    """Each convolution is followed by its normalisation, then ReLU, then the pool (section 2.2)."""
    layers = [type(m) for m in build(spec(f"cnn{depth}", batch_norm=True), CIFAR, 10)]
    block = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]
    assert layers == block * depth + [nn.Flatten, nn.Linear]


@pytest.mark.parametrize("name", ["resnet", "resnet_e7"])
def test_residual_networks_normalise_once(name):
    """Table E.7 has one batch norm, of 64 channels, after the last pooling."""
    (norm,) = [m for m in build(spec(name), CIFAR, 10).modules() if isinstance(m, nn.BatchNorm2d)]
    assert norm.num_features == 64


@pytest.mark.parametrize("name", ["fc", "cnn1", "cnn2", "cnn3", "resnet", "resnet_e7"])
@pytest.mark.parametrize("shape", [MNIST, CIFAR])
def test_every_network_takes_both_image_sizes(name, shape):
    """One number a class comes out for the shapes of MNIST and of CIFAR10."""
    module = build(spec(name), shape, 10).eval()
    assert module(torch.zeros(2, *shape)).shape == (2, 10)


def test_weights_come_from_the_seed_alone():
    """Equal seeds give equal weights, others do not, and the global generator is left alone."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, same, other = (build(spec("fc"), MNIST, 10, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(map(torch.equal, first.state_dict().values(), same.state_dict().values()))
    assert not torch.equal(first[1].weight, other[1].weight)


@pytest.fixture
def users_module(tmp_path, monkeypatch):
    """A module `usernet` that lies where the command is called."""

    def write(text):
        (tmp_path / "usernet.py").write_text(text)

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "usernet", raising=False)
    return write


def test_a_users_network(users_module):
    """module:callable gets the shape and classes if it asks for them, and its own options."""
    users_module(
        "from torch import nn\n"
        "def build(input_shape, width=4):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[-1], width))\n"
    )
    assert count_parameters(build(spec("usernet:build", width=7), (9,), 3)) == linear(9, 7)


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ("    return 3\n", "returns int; it must return an nn.Module"),
        ("    raise KeyError('no')\n", "fails with KeyError"),
    ],
)
def test_a_users_network_that_is_none(users_module, body, names):
    """What fails or is no module is refused in a sentence with its name."""
    users_module("def build():\n" + body)
    with pytest.raises(BadReference, match=r"usernet:build") as refused:
        build(spec("usernet:build"), (9,), 3)
    assert names in str(refused.value)
