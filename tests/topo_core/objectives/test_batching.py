"""Every way to evaluate k copies of a network gives the numbers of a plain loop over them."""

import copy

import pytest
import torch
from torch import nn

from topo_core.objectives.batching.cuda_graphs import CudaGraphEvaluator
from topo_core.objectives.batching.linear import LinearEvaluator
from topo_core.objectives.batching.literal import LiteralStrategy
from topo_core.objectives.batching.memory_budget import BudgetedEvaluator, activation_bytes
from topo_core.objectives.batching.protocol import Network
from topo_core.objectives.batching.registry import STRATEGIES
from topo_core.objectives.losses import CrossEntropy
from topo_core.objectives.network_loss import ModuleObjective, strategies
from topo_core.objectives.protocol import Step
from topo_core.random_streams import generator

CLASSES, EXAMPLES, BATCH = 4, 26, 11  # the last minibatch of an epoch is smaller


def perceptron(*hidden):
    """A fully connected network on 5x5 images."""
    layers, width = [nn.Flatten()], 25
    for size in hidden:
        layers += [nn.Linear(width, size), nn.ReLU()]
        width = size
    return nn.Sequential(*layers, nn.Linear(width, CLASSES))


def unusual():
    """A network that no special strategy knows: other activations, other shapes."""
    return nn.Sequential(nn.Conv2d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(32, CLASSES))


NETWORKS = {
    "one layer": perceptron().double(),
    "two layers": perceptron(7).double(),
    "three layers": perceptron(7, 6).double(),
    "unusual": unusual().double(),
}


def data():
    draw = generator("strategies")
    inputs = torch.randn(EXAMPLES, 1, 5, 5, generator=draw, dtype=torch.float64)
    return inputs, torch.randint(CLASSES, (EXAMPLES,), generator=draw)


def possible(module, device="cpu"):
    """Names of the strategies of a network on a kind of device."""
    return strategies(module, *data(), device=device)


CASES = [
    (network, strategy)
    for network, module in NETWORKS.items()
    for strategy in possible(module)
    if strategy != "literal"
]


def points(module, k):
    """k random points [k, d] of a network."""
    d = sum(p.numel() for p in module.parameters())
    return 0.5 * torch.randn(k, d, generator=generator("points"), dtype=torch.float64)


def by_hand(module, point, inputs, targets):
    """Loss and gradient [d] at `point` [d] by loading the weights and calling `backward`."""
    module = module.double().train()
    nn.utils.vector_to_parameters(point, module.parameters())
    module.zero_grad()
    loss = nn.functional.cross_entropy(module(inputs), targets)
    loss.backward()
    return loss.detach(), torch.cat([p.grad.flatten() for p in module.parameters()])


def objective(network, strategy):
    inputs, targets = data()
    return ModuleObjective(NETWORKS[network], inputs, targets, batch_size=BATCH, strategy=strategy)


@pytest.mark.parametrize("network", NETWORKS)
def test_literal_is_backward(network):
    """The literal loop gives the loss and the gradients of `backward` on the step's minibatch."""
    module, found = NETWORKS[network], objective(network, "literal")
    rows, step = points(module, 2), Step(3, 1, 0)
    losses, gradients = found.gradients(rows, step)
    batch = found.minibatch(step)
    for i, row in enumerate(rows):
        loss, gradient = by_hand(module, row, *batch)
        assert torch.allclose(losses[i], loss, rtol=1e-13)
        assert torch.allclose(gradients[i], gradient, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("network", "strategy"), CASES)
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("batch", [0, 2])
def test_gradients_agree(network, strategy, k, batch):
    """Losses and gradients are those of the literal loop, on full and on smaller minibatches."""
    rows, step = points(NETWORKS[network], k), Step(5, 2, batch)
    before = rows.clone()
    losses, gradients = objective(network, strategy).gradients(rows, step)
    expected, slopes = objective(network, "literal").gradients(rows, step)
    assert torch.allclose(losses, expected, rtol=1e-13)
    assert torch.allclose(gradients, slopes, rtol=1e-11, atol=1e-14)
    assert torch.equal(rows, before)


@pytest.mark.parametrize(("network", "strategy"), CASES)
def test_losses_agree(network, strategy):
    """Losses over the whole set are those of the literal loop."""
    rows = points(NETWORKS[network], 18)  # more than are evaluated together
    found = objective(network, strategy).losses(rows)
    assert found.dtype == torch.float64
    assert torch.allclose(found, objective(network, "literal").losses(rows), rtol=1e-13)


@pytest.mark.parametrize(("network", "strategy"), CASES)
def test_losses_on_segments_agree(network, strategy):
    """What segments share changes nothing: losses are those of the points, one by one."""
    rows = points(NETWORKS[network], 4)
    alphas = torch.tensor([[0.0, 0.25, 1.0], [0.5, 0.75, 0.1], [0.2, 0.3, 0.4]]).double()
    found = objective(network, strategy).losses_on_segments(rows[:-1], rows[1:], alphas)
    free = torch.lerp(rows[:-1, None], rows[1:, None], alphas[:, :, None])
    expected = objective(network, "literal").losses(free.flatten(0, 1)).view(alphas.shape)
    assert torch.allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("network", ["two layers", "three layers"])
def test_losses_on_segments_do_not_overflow(network):
    """Where a wrong class is ahead by more than an exponential can hold, the loss is still that number."""
    rows = 40 * points(NETWORKS[network], 3)
    alphas = torch.tensor([[0.0, 0.25], [0.5, 0.9]], dtype=torch.float64)
    found = objective(network, "linear").losses_on_segments(rows[:-1], rows[1:], alphas)
    assert bool((found > 800).all())  # exp(710) is infinite in float64
    expected = objective(network, "literal").losses_on_segments(rows[:-1], rows[1:], alphas)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_unknown_strategies_are_refused():
    """A strategy that the network does not allow is refused by a sentence that lists those it does."""
    with pytest.raises(ValueError, match=r"'linear'; this network allows .*literal"):
        objective("unusual", "linear")


class Small:
    """A strategy on a device with room for three points: row sums, to be seen in the right order."""

    def __init__(self, room):
        self.room, self.asked = room, []

    def gradients(self, points, inputs, targets):
        self.asked.append(len(points))
        if len(points) > self.room:
            raise torch.OutOfMemoryError("no room")
        return points.sum(1), 2 * points

    def gradients_of_paths(self, points, inputs, targets):
        raise NotImplementedError

    def outputs(self, points, inputs, buffers=None):
        self.asked.append(len(points))
        if len(points) > self.room:
            raise torch.OutOfMemoryError("no room")
        return points[:, None] + buffers["shift"][:, None]


def test_out_of_memory_halves_and_goes_on():
    """Where memory runs out, fewer points share a call, then and later; results are in order."""
    small = Small(room=3)
    budgeted = BudgetedEvaluator(small)
    rows = points(NETWORKS["one layer"], 10)
    sums, doubled = budgeted.gradients(rows, *data())
    assert torch.equal(sums, rows.sum(1)) and torch.equal(doubled, 2 * rows)
    assert small.asked == [10, 5, 2, 2, 2, 2, 2]
    shift = torch.arange(10.0)[:, None].double()
    assert torch.equal(budgeted.outputs(rows, data()[0], {"shift": shift}), (rows + shift)[:, None])
    assert max(small.asked[7:]) == 2


def test_a_single_point_that_does_not_fit_is_an_error():
    """There is nothing to halve below one point."""
    with pytest.raises(torch.OutOfMemoryError):
        BudgetedEvaluator(Small(room=0)).gradients(points(NETWORKS["one layer"], 2), *data())


def test_points_at_once_follow_from_activations():
    """Two layers of 4 float64 outputs, values and gradients: 128 bytes an example."""
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU()).double()
    assert activation_bytes(module, torch.zeros(1, 3).double()) == 2 * (4 + 4) * 8


def test_graphs_are_only_for_devices_that_have_them():
    """On a CPU a graphed strategy is the strategy itself, and it is not offered there."""
    inputs, targets = data()
    inner = LinearEvaluator(Network.of(NETWORKS["two layers"], CrossEntropy()))
    rows = points(NETWORKS["two layers"], 3)
    for found, expected in zip(
        CudaGraphEvaluator(inner).gradients(rows, inputs, targets),
        inner.gradients(rows, inputs, targets),
        strict=True,
    ):
        assert torch.equal(found, expected)
    assert not any("graph" in name for name in possible(NETWORKS["two layers"]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("network", "strategy"),
    [
        (network, strategy)
        for network, module in NETWORKS.items()
        for strategy in possible(module, "cuda")
    ],
)
def test_gradients_agree_on_a_gpu(network, strategy):
    """Each strategy of a GPU gives the literal loop's float64 numbers, on new data each time."""
    inputs, targets = (value.cuda() for value in data())
    module = NETWORKS[network].double()
    on_gpu = ModuleObjective(
        copy.deepcopy(module).cuda(), inputs, targets, batch_size=BATCH, strategy=strategy
    )
    rows = points(module, 3)
    for batch in (0, 1, 2, 0):
        losses, gradients = on_gpu.gradients(rows.cuda(), Step(5, 2, batch))
        expected, slopes = objective(network, "literal").gradients(rows, Step(5, 2, batch))
        assert torch.allclose(losses.cpu(), expected, rtol=1e-11)
        assert torch.allclose(gradients.cpu(), slopes, rtol=1e-9, atol=1e-13)
        rows = rows + 0.01


def test_a_strategy_from_outside(monkeypatch):
    """One that is registered by name is possible where it says so, and evaluates every set."""
    calls = []

    class Counted(LiteralStrategy):
        name = "counted"

        def make(self, network):
            calls.append(type(network.loss).__name__)
            return super().make(network)

    monkeypatch.setitem(STRATEGIES, "counted", Counted())
    assert "counted" in possible(NETWORKS["unusual"])
    rows = points(NETWORKS["unusual"], 2)
    found = objective("unusual", "counted")
    assert torch.equal(found.losses(rows), objective("unusual", "literal").losses(rows))
    assert calls == ["CrossEntropy"] * 2


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid])
def test_the_linear_strategy_knows_activations(activation):
    """Those whose derivative follows from their output; its gradients are the loop's, on mixtures too."""
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(25, 6), activation(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)
    ).double()
    rows, alphas = points(module, 3), torch.tensor([[0.2, 0.7]] * 2, dtype=torch.float64)
    ours, loop = (
        ModuleObjective(module, *data(), batch_size=BATCH, strategy=name)
        for name in ("linear", "literal")
    )
    step = Step(1, 0, 2)
    torch.testing.assert_close(ours.gradients(rows, step), loop.gradients(rows, step))
    given = rows[:-1], rows[1:], alphas
    torch.testing.assert_close(ours.losses_on_segments(*given), loop.losses_on_segments(*given))
