"""No strategy gives another loss than the user's network, whatever is hooked, tied, shared or overridden.

Modules are drawn at random; each strategy that a module allows is compared with plain PyTorch in float64,
written out here without the project's code.
"""

import copy
import random
import types

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from topo_core.objectives.agreement import disagreement
from topo_core.objectives.network_loss import ModuleObjective, strategies
from topo_core.objectives.protocol import Step

CLASSES, EXAMPLES, WIDTH = 3, 24, 6


class Doubled(nn.Linear):
    """A subclass whose forward is not that of its base."""

    def forward(self, x):
        return 2 * super().forward(x)


class Backwards(nn.Sequential):
    """A container whose forward is not that of its base."""

    def forward(self, x):
        return super().forward(x) - 0.5


class Masked(nn.Module):
    """A parametrization: half of the weights are zero."""

    def forward(self, weight):
        mask = torch.arange(weight.numel()).view_as(weight) % 2
        return weight * mask.to(weight)


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = nn.Linear(width, width)

    def forward(self, x):
        return x + torch.tanh(self.inner(x))


class Shifted(nn.Module):
    """A buffer that takes part."""

    def __init__(self, width):
        super().__init__()
        self.register_buffer("shift", torch.randn(width))

    def forward(self, x):
        return x + self.shift


def hidden(draw, width):
    """One hidden layer or two of the same width, of a random kind."""
    kind = draw.choice(
        ["plain"] * 4
        + ["subclass", "hook", "pre-hook", "parametrized", "weight norm"]
        + ["orthogonal", "residual", "norm", "batch norm", "buffer", "own forward", "no bias"]
        + ["group norm", "frozen", "extra", "full backward hook"]
    )
    layer = nn.Linear(width, width, bias=kind != "no bias")
    match kind:
        case "subclass":
            layer = Doubled(width, width)
        case "hook":
            layer.register_forward_hook(lambda module, inputs, output: 3 * output)
        case "pre-hook":
            layer.register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,))
        case "parametrized":
            parametrize.register_parametrization(layer, "weight", Masked())
        case "weight norm":
            layer = parametrizations.weight_norm(layer)
        case "orthogonal":
            layer = parametrizations.orthogonal(layer)
        case "residual":
            layer = Residual(width)
        case "norm":
            layer = nn.Sequential(layer, nn.LayerNorm(width))
        case "batch norm":
            layer = nn.Sequential(layer, nn.BatchNorm1d(width))
        case "group norm":
            layer = nn.Sequential(layer, nn.GroupNorm(1, width))
        case "buffer":
            layer = nn.Sequential(layer, Shifted(width))
        case "own forward":
            layer.forward = types.MethodType(lambda self, x: nn.Linear.forward(self, x) + 1, layer)
        case "frozen":
            layer.weight.requires_grad_(False)
        case "extra":
            layer.scale = nn.Parameter(torch.ones(2))
        case "full backward hook":
            layer.register_full_backward_hook(lambda module, before, after: (2 * before[0],))
    return [layer, draw.choice([nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.Softplus])()]


def chain(draw):
    """A fully connected network of random layers, some of them tied or shared."""
    layers = [nn.Flatten(*draw.choice([(), (1, 2)]))] if draw.random() < 0.8 else []
    layers += [nn.Linear(WIDTH, 5), nn.Tanh()]
    middle = [part for _ in range(draw.randint(0, 3)) for part in hidden(draw, 5)]
    layers += middle
    plain = [layer for layer in middle if type(layer) is nn.Linear]
    if len(plain) > 1 and draw.random() < 0.4:
        plain[1].weight = plain[0].weight
    if plain and draw.random() < 0.3:
        layers += [plain[0], nn.ReLU()]
    layers.append(nn.Linear(5, CLASSES))
    return draw.choice([nn.Sequential, nn.Sequential, nn.Sequential, Backwards])(*layers)


def images(draw):
    """A small convolutional network, with what may be hooked or tied."""
    first = nn.Conv2d(1, 3, 2, padding=draw.choice([0, 1]))
    if draw.random() < 0.3:
        first.register_forward_hook(lambda module, inputs, output: output + 0.1)
    if draw.random() < 0.2:
        parametrize.register_parametrization(first, "weight", Masked())
    activation = draw.choice([nn.ReLU, nn.Tanh])()
    middle = nn.Sequential(first, activation, nn.MaxPool2d(2), nn.Flatten(start_dim=1))
    size = middle(torch.zeros(1, 1, 4, 4)).shape[1]
    head = draw.choice([nn.Linear, Doubled])(size, CLASSES)
    return draw.choice([nn.Sequential, Backwards])(*middle, head)


def plain(module, row, inputs, targets):
    """Loss and gradient of the network in training, its statistics those of the batch."""
    module = copy.deepcopy(module).train()
    trained = [p for p in module.parameters() if p.requires_grad]
    with torch.no_grad():
        for parameter, values in zip(trained, row.split([p.numel() for p in trained]), strict=True):
            parameter.copy_(values.view_as(parameter))
    loss = nn.functional.cross_entropy(module(inputs), targets)
    slopes = torch.autograd.grad(loss, trained, allow_unused=True, materialize_grads=True)
    return loss.detach(), torch.cat([slope.flatten() for slope in slopes])


def check(seed):
    """Each strategy that a random module allows agrees with plain PyTorch, or fails with an error.

    And its gradients over the whole set are those of its losses.
    """
    draw = random.Random(seed)
    torch.manual_seed(seed)
    of_images = draw.random() < 0.25
    module = (images(draw) if of_images else chain(draw)).double()
    shape = (1, 4, 4) if of_images else (2, 3) if type(module[0]) is nn.Flatten else (WIDTH,)
    inputs = torch.randn(EXAMPLES, *shape, dtype=torch.float64)
    targets = torch.randint(CLASSES, (EXAMPLES,))
    start = torch.cat([p.detach().flatten() for p in module.parameters() if p.requires_grad])
    rows = start + 0.1 * torch.randn(2, len(start), dtype=torch.float64)
    offered = strategies(module, inputs, targets)
    assert "literal" in offered
    for strategy in offered:
        try:
            objective = ModuleObjective(
                module, inputs, targets, batch_size=EXAMPLES, strategy=strategy
            )
            losses, gradients = objective.minibatch_gradients(rows, Step(0, 0, 0))
        except (RuntimeError, NotImplementedError):
            assert strategy == "functional"  # `vmap` does not know every operation
            continue
        batch = objective.minibatch(Step(0, 0, 0))
        for row, loss, gradient in zip(rows, losses, gradients, strict=True):
            expected, slope = plain(module, row, *batch)
            torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(gradient, slope, rtol=1e-7, atol=1e-10)
        found, gradients = objective.full_gradients(rows)
        torch.testing.assert_close(found, objective.losses(rows), rtol=1e-9, atol=1e-12)
        if any(part._backward_hooks for part in module.modules()):
            continue  # its gradients are, as those of plain PyTorch, not those of its loss
        direction = torch.randn(len(start), dtype=torch.float64)
        ahead, behind = (objective.losses(rows + move * direction) for move in (1e-6, -1e-6))
        slopes = (ahead - behind) / 2e-6
        torch.testing.assert_close(gradients @ direction, slopes, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("seed", range(60))
def test_strategies_are_the_network(seed):
    """Part B, 1: subclasses, hooks, ties, parametrizations, shared layers, norms, buffers."""
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60, 300))
def test_strategies_are_the_network_in_many_cases(seed):
    """The same for 240 more."""
    check(seed)


@pytest.mark.parametrize("first", [Doubled, nn.Linear])
def test_the_default_strategy_is_the_network(first):
    """The example that was found: a Linear whose forward doubles its output has its own loss by default."""
    torch.manual_seed(0)
    module = nn.Sequential(first(WIDTH, 5), nn.ReLU(), nn.Linear(5, CLASSES)).double()
    inputs = torch.randn(EXAMPLES, WIDTH, dtype=torch.float64)
    targets = torch.randint(CLASSES, (EXAMPLES,))
    objective = ModuleObjective(module, inputs, targets, batch_size=8)
    row = nn.utils.parameters_to_vector(module.parameters()).detach()
    expected = nn.functional.cross_entropy(module(inputs), targets)
    assert float(objective.losses(row[None])[0]) == pytest.approx(expected.item(), rel=1e-12)
    assert (objective.strategy == "linear") is (first is nn.Linear)


def test_rows_of_examples_with_several_axes_are_no_rows():
    """Without a Flatten, Linear acts on the last axis: the strategy that flattens is not offered."""
    module = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, CLASSES))
    inputs = torch.randn(4, 2, 3)
    assert "linear" not in strategies(module, inputs, torch.zeros(4, dtype=torch.int64))


def test_a_wrong_strategy_is_seen(monkeypatch):
    """The comparison before a strategy is used finds a network that is taken for another one."""
    from topo_core.objectives.batching import linear

    torch.manual_seed(0)
    module = nn.Sequential(Doubled(WIDTH, 5), nn.ReLU(), nn.Linear(5, CLASSES))
    inputs = torch.randn(EXAMPLES, WIDTH)
    targets = torch.randint(CLASSES, (EXAMPLES,))
    rows = nn.utils.parameters_to_vector(module.parameters()).detach()[None]
    plan = linear.plan_of(nn.Sequential(nn.Linear(WIDTH, 5), nn.ReLU(), nn.Linear(5, CLASSES)))
    monkeypatch.setattr(linear, "plan_of", lambda module: plan)
    said = disagreement(module, rows, inputs, targets, "linear")
    assert said is not None and "plain PyTorch gives" in said
    assert disagreement(module, rows, inputs, targets, "literal") is None
