"""How precisely a GPU multiplies: refused where there is none, and no matter to a CPU."""

import pytest
import torch
from torch import nn

from topo_core.objectives.network_loss import ModuleObjective, strategies
from topo_core.objectives.precision import arithmetic, check_precision
from topo_core.objectives.protocol import Step
from topo_core.random_streams import generator

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def objective(device="cpu", **options):
    draw = generator("precision")
    inputs = torch.randn(64, 1, 8, 8, generator=draw)
    targets = torch.randint(4, (64,), generator=draw)
    module = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
    moved = module.to(device), inputs.to(device), targets.to(device)
    return ModuleObjective(*moved, batch_size=32, **options)


def points(device="cpu"):
    d = objective().dimension
    return (0.1 * torch.randn(3, d, generator=generator("rows"))).to(device)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_a_cpu_refuses_less_than_float32(precision):
    """It computes in full whatever is asked for, so it says so."""
    with pytest.raises(ValueError, match=f"precision is {precision!r}, .* choose float32"):
        objective(precision=precision)
    check_precision("float32", CPU)


def test_an_old_gpu_refuses(monkeypatch):
    """GPUs without the units are refused by name."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old GPU")
    with pytest.raises(ValueError, match="Old GPU has no units"):
        check_precision("tf32", CUDA)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    check_precision("bf16", CUDA)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_nothing_changes_on_a_cpu(precision):
    """Inside, a CPU gives the bits that it gives outside, and no setting is touched."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, torch.is_autocast_enabled("cpu")
    rows = points()
    outside = rows @ rows.T
    with arithmetic(precision, CPU):
        assert torch.equal(rows @ rows.T, outside)
        inside = matmul.allow_tf32, cudnn.allow_tf32, torch.is_autocast_enabled("cpu")
    assert inside == before


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_settings_of_a_gpu_hold_inside_alone(precision):
    """Products and convolutions follow the precision inside, and what was set before comes back."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    with pytest.raises(RuntimeError, match="inner"), arithmetic(precision, CUDA):
        assert matmul.allow_tf32 == cudnn.allow_tf32 == (precision == "tf32")
        raise RuntimeError("inner")
    assert (matmul.allow_tf32, cudnn.allow_tf32) == before


def test_bf16_is_for_strategies_with_autograd():
    """A backward pass that is written out is not offered for it."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    data = torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64)
    assert "linear" in strategies(module, *data, device="cuda", precision="tf32")
    offered = strategies(module, *data, device="cuda", precision="bf16")
    assert not any("linear" in name for name in offered)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("strategy", ["channels_last", "channels_last_graph", "functional"])
def test_gradients_are_rounded_and_losses_are_not(precision, strategy):
    """On a GPU gradients are near those of float32 and not equal; losses over the set are the same."""
    rows, step = points("cuda"), Step(0, 0, 0)
    full = objective("cuda", strategy=strategy)
    rounded = objective("cuda", strategy=strategy, precision=precision)
    expected, found = full.gradients(rows, step)[1], rounded.gradients(rows, step)[1]
    apart = float((found - expected).norm() / expected.norm())
    assert 0 < apart < 0.05
    assert torch.equal(full.losses(rows), rounded.losses(rows))


@pytest.mark.parametrize("strategy", ["channels_last", "functional", "literal"])
def test_rounded_gradients_are_near_those_in_full(strategy):
    """Inputs rounded to bf16, here by the CPU's autocast: float32 gradients, a few percent off."""
    rows, step = points(), Step(0, 0, 0)
    chosen = objective(strategy=strategy)
    expected = chosen.gradients(rows, step)[1]
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        losses, found = chosen.gradients_of_paths(rows[None], [step])
    assert losses.dtype == found.dtype == torch.float32
    assert 0 < float((found[0] - expected).norm() / expected.norm()) < 0.1
