"""Copies of a network's parameters under its exact symmetries."""

import itertools
import math

import pytest
import torch
from torch import nn

from topo_core.objectives.flat_parameters import ParameterLayout
from topo_core.objectives.functional_network import FunctionalNetwork
from topo_core.random_streams import generator
from topo_core.symmetries.network_symmetries import NetworkSymmetries
from topo_core.symmetries.tracing import traced_units
from workers.problems.transformer import CharacterTransformer

FLAT, IMAGES, TOKENS, VECTORS = "flat", "images", "tokens", "vectors"


def inputs(kind):
    draw = generator("inputs")
    if kind == TOKENS:
        return torch.randint(0, 7, (9, 5), generator=draw)
    shape = {FLAT: (9, 3), IMAGES: (9, 2, 4, 4), VECTORS: (9, 6, 5)}[kind]
    return torch.randn(shape, generator=draw, dtype=torch.float64)


def perceptron(activation, *sizes):
    layers = []
    for units, following in itertools.pairwise(sizes):
        layers += [nn.Linear(units, following), activation()]
    return nn.Sequential(*layers[:-1])


class Residual(nn.Module):
    """A layer whose two axes belong to one group of units."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 4)
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        x = torch.tanh(self.first(x))
        return self.last(x + torch.tanh(self.second(x)))


class Attentive(nn.Module):
    """``nn.MultiheadAttention`` between linear layers."""

    def __init__(self):
        super().__init__()
        self.first, self.attention = nn.Linear(5, 8), nn.MultiheadAttention(8, 4, batch_first=True)
        self.norm, self.last = nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.first(x)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.last(self.norm(x).mean(1))


class Encoder(nn.Module):
    """torch's own encoder layer."""

    def __init__(self, norm_first):
        super().__init__()
        self.first, self.last = nn.Linear(5, 8), nn.Linear(8, 3)
        self.layer = nn.TransformerEncoderLayer(
            8, 2, 12, 0.0, batch_first=True, norm_first=norm_first
        )

    def forward(self, x):
        return self.last(self.layer(self.first(x)).mean(1))


class Separate(nn.Module):
    """Attention of one head, whose four layers are written one by one."""

    def __init__(self, heads):
        super().__init__()
        self.num_heads = heads
        self.q_proj, self.k_proj = nn.Linear(5, 6), nn.Linear(5, 6, bias=False)
        self.v_proj, self.out_proj = nn.Linear(5, 4), nn.Linear(4, 5)

    def forward(self, x):
        q, k, v = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        return self.out_proj((weights @ v).transpose(1, 2).flatten(2))


def grouped():
    """Groups of channels, with the same partition between two grouped layers."""
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1, groups=4), nn.Tanh(),
        nn.Conv2d(12, 8, 1, groups=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 3),
    )  # fmt: skip


def depthwise():
    """Depthwise layers with one and with two channels for each of their inputs."""
    return nn.Sequential(
        nn.Conv2d(2, 6, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=6, padding=1),
        nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 12, 3, groups=6), nn.Tanh(), nn.Conv2d(12, 4, 1),
        nn.ReLU(), nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip


def first_grouped():
    """Groups of the inputs, which cannot be renumbered: the channels inside a group can."""
    return nn.Sequential(nn.Conv2d(2, 8, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))


def group_normed():
    return nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.GroupNorm(4, 8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)
    )


CASES = {
    "tanh": (lambda: perceptron(nn.Tanh, 3, 6, 5, 2), FLAT, [6, 5]),
    "relu": (lambda: perceptron(nn.ReLU, 3, 6, 5, 2), FLAT, [6, 5]),
    "gelu": (lambda: perceptron(nn.GELU, 3, 6, 5, 2), FLAT, [6, 5]),
    "residual": (Residual, FLAT, [4]),
    "transformer": (lambda: CharacterTransformer(7, 5, 8, 2, 2), TOKENS, [8, 2, 32, 2, 32]),
    "every token": (
        lambda: CharacterTransformer(7, 5, 12, 3, 1, every_token=True),
        TOKENS,
        [12, 3, 48],
    ),
    "attention": (Attentive, VECTORS, [8, 4]),
    "encoder": (lambda: Encoder(norm_first=False), VECTORS, [8, 2, 12]),
    "encoder, norms first": (lambda: Encoder(norm_first=True), VECTORS, [8, 2, 12]),
    "two heads": (
        lambda: nn.Sequential(Separate(2), nn.Flatten(), nn.Linear(30, 2)),
        VECTORS,
        None,
    ),
    "one head": (lambda: nn.Sequential(Separate(1), nn.Flatten(), nn.Linear(30, 2)), VECTORS, None),
    "grouped": (grouped, IMAGES, [4]),
    "depthwise": (depthwise, IMAGES, [6, 4]),
    "groups of inputs": (first_grouped, IMAGES, [4, 4]),
    "group norm": (group_normed, IMAGES, [4]),
}


def drawn(module, *names):
    count = sum(p.numel() for p in module.parameters())
    return torch.randn(count, generator=generator("copies", *names), dtype=torch.float64)


def outputs(module, flat, kind):
    """In float64, with batch norm in its training form."""
    layout = ParameterLayout.of(module)
    with torch.no_grad():
        return FunctionalNetwork(module)(layout.views(flat), inputs(kind))


@pytest.mark.parametrize("ridge", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_copies_are_recognised_and_others_are_not(name, ridge):
    """A random symmetry keeps the outputs and is undone; another network stays another."""
    build, kind, sizes = CASES[name]
    module = build().double()
    symmetries = NetworkSymmetries.of(module, inputs(kind), ridge=ridge)
    if sizes is not None:
        assert [group.size for group in symmetries.units.groups] == sizes
    point, other = drawn(module, name), drawn(module, name, "other")
    copy = symmetries.random_copy(point, generator("symmetry", name))
    assert float((copy - point).norm()) > 0.1 * float(point.norm())
    torch.testing.assert_close(outputs(module, copy, kind), outputs(module, point, kind))
    assert symmetries.distance(point, copy) < 1e-12
    aligned = symmetries.aligned(point, other)
    torch.testing.assert_close(outputs(module, aligned, kind), outputs(module, other, kind))
    assert symmetries.distance(point, other) > 0.1


@pytest.mark.parametrize("seed", range(8))
def test_random_architectures(seed):
    """Convolutions with random groups, activations and norms: what the graph suggests is exact, and copies
    are found.
    """
    draw = generator("architecture", seed)

    def choice(*options):
        return options[int(torch.randint(len(options), (1,), generator=draw))]

    channels, layers = 2, []
    for _ in range(choice(2, 3)):
        following = choice(4, 6, 8)
        groups = choice(1, 1, math.gcd(channels, following))
        layers.append(
            nn.Conv2d(channels, following, 3, padding=1, groups=groups, bias=choice(True, False))
        )
        if choice(True, False):
            layers.append(nn.BatchNorm2d(following))
        layers.append(choice(nn.ReLU, nn.Tanh, nn.GELU, nn.Identity)())
        channels = following
    module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * channels, 2)).double()
    suggested = traced_units(module)
    symmetries = NetworkSymmetries.of(module, inputs(IMAGES), ridge=choice(True, False))
    assert len(symmetries.units.groups) == len(suggested.groups)
    kept, expected = (
        [(gauge.odd, gauge.homogeneous) for gauge in units.gauges]
        for units in (symmetries.units, suggested)
    )
    assert kept == expected
    point = drawn(module, seed)
    copy = symmetries.random_copy(point, draw)
    torch.testing.assert_close(outputs(module, copy, IMAGES), outputs(module, point, IMAGES))
    assert symmetries.distance(point, copy) < 1e-12
    assert symmetries.distance(point, drawn(module, seed, "other")) > 0.1


def test_which_symmetries_a_network_has():
    """Signs behind tanh, scales behind ReLU, neither behind GELU."""
    for activation, odd, homogeneous in [
        (nn.Tanh, True, False),
        (nn.ReLU, False, True),
        (nn.GELU, False, False),
    ]:
        module = perceptron(activation, 3, 4, 2)
        gauges = NetworkSymmetries.of(module, inputs(FLAT), ridge=False).units.gauges
        assert [(one.odd, one.homogeneous) for one in gauges] == (
            [(odd, homogeneous)] if odd or homogeneous else []
        )


class Unequal(nn.Module):
    """Treats its hidden units differently, in an operation that the graph does not show."""

    def __init__(self, operation):
        super().__init__()
        self.first, self.last, self.operation = nn.Linear(3, 4), nn.Linear(4, 2), operation

    def forward(self, x):
        return self.last(self.operation(torch.tanh(self.first(x))))


@pytest.mark.parametrize(
    "operation",
    [
        lambda h: torch.cumsum(h, 1),
        lambda h: torch.roll(h, 1, 1),
        lambda h: h[:, [0, 0, 2, 3]],
        nn.Sequential(nn.Unflatten(1, (4, 1)), nn.LocalResponseNorm(2), nn.Flatten()),
        nn.Sequential(nn.Unflatten(1, (2, 2)), nn.ChannelShuffle(2), nn.Flatten()),
    ],
)
def test_symmetries_that_only_the_graph_suggests_are_dropped(operation):
    """Each is checked on the network: units that are treated differently are not renumbered."""
    module = Unequal(operation).double()
    symmetries = NetworkSymmetries.of(module, inputs(FLAT), ridge=True)
    point = drawn(module, "unequal")
    aligned = symmetries.aligned(drawn(module, "another"), point)
    torch.testing.assert_close(outputs(module, aligned, FLAT), outputs(module, point, FLAT))


def test_frozen_and_shared_parameters_keep_what_is_exact():
    """Units with a frozen weight cannot be renumbered; a layer that is used twice ties its units."""
    frozen = perceptron(nn.Tanh, 3, 4, 5, 2).double()
    frozen[2].weight.requires_grad_(False)
    assert NetworkSymmetries.of(frozen, inputs(FLAT), ridge=True).units.groups == ()
    twice = nn.Linear(4, 4)
    shared = nn.Sequential(
        nn.Linear(3, 4), nn.Tanh(), twice, nn.Tanh(), twice, nn.Tanh(), nn.Linear(4, 2)
    )
    (group,) = NetworkSymmetries.of(shared.double(), inputs(FLAT), ridge=True).units.groups
    assert group.size == 4


def test_classes_join_copies_of_equal_loss_only():
    """Three copies of one point and one of another are two classes, named by their first members."""
    module = perceptron(nn.Tanh, 3, 6, 2)
    symmetries = NetworkSymmetries.of(module, inputs(FLAT), ridge=True)
    first, second, draw = drawn(module, 1), drawn(module, 2), generator("classes")
    points = torch.stack(
        [
            symmetries.random_copy(first, draw),
            second,
            first,
            symmetries.random_copy(second, draw),
            symmetries.random_copy(first, draw),
        ]
    )
    assert symmetries.copy_classes(points, [0.5, 0.7, 0.5, 0.7, 0.5]) == [0, 1, 0, 1, 0]
    # Points of different losses are no copies.
    assert symmetries.copy_classes(points, [0.1, 0.2, 0.3, 0.4, 0.5]) == [0, 1, 2, 3, 4]
