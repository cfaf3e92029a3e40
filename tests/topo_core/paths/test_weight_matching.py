"""Renumbering hidden units."""

import pytest
import torch
from torch import nn

from topo_core.paths.starts.weight_matching import weight_matching
from topo_core.random_streams import generator
from topo_core.symmetries.tracing import traced_units


class Residual(nn.Module):
    """Convolutions with an addition, batch norm, pooling and a flattening."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.last = nn.Linear(6 * 4, 3)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(x + self.second(x))
        return self.last(nn.functional.max_pool2d(x, 2).flatten(1))


def perceptron():
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 3)), (
        5,
    )


def residual():
    return Residual(), (1, 4, 4)


def drawn(case, seed):
    module, shape = case()
    module = module.double()
    flat = torch.cat([p.flatten() for p in module.parameters()]).detach()
    draw = generator("symmetry", seed)
    flat = torch.randn(flat.shape, generator=draw, dtype=torch.float64)
    inputs = torch.randn(9, *shape, generator=draw, dtype=torch.float64)
    return module, flat, inputs


def outputs(module, flat, inputs):
    shapes = [(name, p.shape) for name, p in module.named_parameters()]
    parts = flat.split([shape.numel() for _, shape in shapes])
    named = {name: part.reshape(s) for (name, s), part in zip(shapes, parts, strict=True)}
    return torch.func.functional_call(module, named, (inputs,))


@pytest.mark.parametrize("case", [perceptron, residual])
def test_aligned_network_computes_the_same(case):
    """Weight matching changes the parameters, and not what the network computes."""
    module, other, inputs = drawn(case, 1)
    _, reference, _ = drawn(case, 2)
    aligned = weight_matching(module, reference, other)
    assert not torch.equal(aligned, other)
    torch.testing.assert_close(
        outputs(module, aligned, inputs), outputs(module, other, inputs), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("case", [perceptron, residual])
def test_aligned_network_is_nearer(case):
    """Weight matching brings the other network closer to the reference."""
    module, other, _ = drawn(case, 1)
    _, reference, _ = drawn(case, 2)
    aligned = weight_matching(module, reference, other)
    assert (aligned - reference).norm() < (other - reference).norm()


@pytest.mark.parametrize("case", [perceptron, residual])
def test_renumbered_network_is_found_again(case):
    """A copy with its units in another order is brought back onto the original."""
    module, reference, _ = drawn(case, 3)
    _, third, _ = drawn(case, 4)
    shuffled = weight_matching(module, third, reference)
    assert not torch.equal(shuffled, reference)
    torch.testing.assert_close(weight_matching(module, reference, shuffled), reference)


def test_addition_joins_numberings():
    """The terms of an addition are one group; the two layers of a perceptron are two."""
    assert [group.size for group in traced_units(Residual()).groups] == [6]
    assert [group.size for group in traced_units(perceptron()[0]).groups] == [8, 7]


def test_unknown_layers_are_refused():
    """A layer that cannot be followed is refused by name, in one sentence."""
    with pytest.raises(ValueError, match="layer 0 is a PReLU"):
        traced_units(nn.Sequential(nn.PReLU(4)))
