"""oneDNN's products are those of torch's own library, and are taken only where they are clearly faster."""

import pytest
import torch
from torch import nn

from topo_core.objectives.batching import matrix_products as products
from topo_core.objectives.batching.linear import LinearStrategy
from topo_core.objectives.batching.registry import STRATEGIES
from topo_core.objectives.network_loss import ModuleObjective
from topo_core.objectives.protocol import Step
from topo_core.random_streams import generator
from workers.execution import strategy_probe as probe

pytestmark = pytest.mark.skipif(not products.has_onednn(), reason="this torch has no such product")


def matrices(dtype=torch.float32):
    draw = generator("products")
    a, b = (torch.randn(rows, 700, generator=draw, dtype=torch.float64) for rows in (330, 21))
    return a.to(dtype), b.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_product(dtype):
    """To rounding, of matrices in any order of memory; another precision than float32 keeps its own."""
    a, b = matrices(dtype)
    exact = a.double() @ b.double().T
    for right in (b, b.T.contiguous().T):
        found = products.onednn(a, right)
        assert found.dtype is dtype and a.numel() * len(right) > products._LARGE
        assert float((found - exact).norm() / exact.norm()) < 8 * torch.finfo(dtype).eps


def objective(strategy):
    draw = generator("images")
    inputs = torch.randn(60, 1, 8, 8, generator=draw)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 4))
    targets = torch.randint(4, (60,), generator=draw)
    return ModuleObjective(module, inputs, targets, batch_size=25, strategy=strategy)


def test_gradients_and_heights_by_onednn(monkeypatch):
    """In float32 they are the literal loop's to rounding, for one path and for several."""
    called = []
    plain = products.onednn

    def counted(a, b):
        called.append(a.shape)
        return plain(a, b)

    strategy = LinearStrategy("linear_onednn", product=counted, cpu_only=True)
    monkeypatch.setitem(STRATEGIES, "linear_onednn", strategy)
    monkeypatch.setattr(products, "_LARGE", 0)
    ours, loop = objective("linear_onednn"), objective("literal")
    rows = 0.3 * torch.randn(2, 3, ours.dimension, generator=generator("rows"))
    steps = [Step(1, 0, 0), Step(2, 0, 0)]
    for i, step in enumerate(steps):
        expected = loop.gradients(rows[i], step)[1]
        for found in (ours.gradients(rows[i], step)[1], ours.gradients_of_paths(rows, steps)[1][i]):
            assert float((found - expected).norm() / expected.norm()) < 1e-6
    alphas = torch.tensor([[0.0, 0.5, 1.0]], dtype=torch.float64)
    heights = ours.losses_on_segments(rows[0, :1], rows[0, 1:2], alphas)
    assert torch.allclose(heights, loop.losses_on_segments(rows[0, :1], rows[0, 1:2], alphas))
    assert torch.allclose(ours.losses(rows[0]), loop.losses(rows[0]))
    assert len(called) > 10


@pytest.mark.parametrize("broken", ["raises", "is another one"])
def test_a_product_that_is_not_one_is_not_taken(monkeypatch, broken):
    """A name that torch keeps and whose meaning it changes costs a choice, and no run."""

    def product(a, b):
        if broken == "raises":
            raise RuntimeError("expected at most 5 arguments")
        return torch.zeros(len(a), len(b))

    monkeypatch.setattr(products, "onednn", product)
    assert not products.onednn_is_clearly_faster()


@pytest.mark.parametrize(("seconds", "faster"), [((1.0, 0.45), True), ((1.0, 0.9), False)])
def test_a_small_advantage_does_not_count(monkeypatch, seconds, faster):
    """What noise could decide is not left to it; the answer is what a probe goes by."""
    now = [0.0]

    def takes(taken):
        def product(a, b):
            assert torch.get_num_threads() == 1  # several wait for each other on a busy machine
            now[0] += taken
            return a @ b.T

        return product

    monkeypatch.setattr(products.time, "process_time", lambda: now[0])
    monkeypatch.setattr(products, "blas", takes(seconds[0]))
    monkeypatch.setattr(products, "onednn", takes(seconds[1]))
    threads = torch.get_num_threads()
    assert products.onednn_is_clearly_faster() is faster
    assert torch.get_num_threads() == threads
    offered = ("linear", "linear_onednn", "literal")
    assert probe._untimed(offered)[0] == ("linear_onednn" if faster else "linear")
    assert probe._untimed(("linear", "literal")) == ("linear",)
    assert probe._untimed(("channels_last", "literal")) == ()
