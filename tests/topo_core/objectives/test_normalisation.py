"""Normalising layers whose inputs hardly vary are named, with their share and the smallest variance."""

import pytest
import torch
from torch import nn

from topo_core.objectives.normalisation import small_variances

LAYERS = {
    "layer": (nn.LayerNorm(8), (6, 8)),
    "tokens": (nn.LayerNorm(8), (6, 4, 8)),
    "rms": (nn.RMSNorm(8, eps=1e-5), (6, 8)),
    "group": (nn.GroupNorm(2, 8), (6, 8, 3)),
    "batch": (nn.BatchNorm1d(8), (6, 8, 3)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_counts_where_its_outputs_are_not_normalised(kind):
    """Inputs of variance 1 pass unnamed; scaled down until the outputs are less than 0.95 of what they
    should be, every group of them counts, and the smallest variance is theirs."""
    layer, shape = LAYERS[kind]
    module = nn.Sequential(layer.double()).train()
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    named = dict(module.named_parameters())
    assert small_variances(module, named, inputs) == []
    assert module(1e-4 * inputs).square().mean() < 0.95**2
    (small,) = small_variances(module, named, 1e-4 * inputs)
    assert (small.layer, small.eps, small.share) == ("0", 1e-5, 1.0)
    assert 0 < small.smallest < 2e-8
    if kind == "layer":
        assert small.smallest == pytest.approx(1e-8 * float(inputs.var(1, correction=0).min()))


def test_the_point_decides_and_not_the_network():
    """The parameters that are given count; those of the module, its mode and its statistics stay."""
    module = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8)).eval()
    named = {name: 1e-5 * value.detach() for name, value in module.named_parameters()}
    before = {name: value.clone() for name, value in module.state_dict().items()}
    (small,) = small_variances(module, named, torch.randn(20, 3))
    assert small.layer == "1" and "'1'" in str(small)
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)
    assert not module.training
