"""Losses of outputs and targets, with a ridge: values, gradients and curvature are those of plain PyTorch."""

from dataclasses import dataclass, fields

import pytest
import torch
from torch import nn
from torch.nn import functional

from topo_core.objectives import curvature
from topo_core.objectives.loss_registry import LOSSES, LossKind
from topo_core.objectives.losses import CrossEntropy, Ridge, UserLoss
from topo_core.objectives.losses.base import PerExampleLoss
from topo_core.objectives.network_loss import ModuleObjective, strategies
from topo_core.objectives.protocol import CurvatureObjective, Step
from topo_core.random_streams import generator
from workers.problems.loss_functions import make_loss
from workers.tasks.specs import LossSpec

EXAMPLES, WIDTH = 30, 4


def normal(*shape):
    return torch.randn(*shape, generator=generator("losses", shape), dtype=torch.float64)


def whole(high, *shape):
    return torch.randint(high, shape, generator=generator("whole", shape))


class Tokens(nn.Module):
    """Outputs [n, 3, 5] for inputs [n, 4]."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(WIDTH, 15)

    def forward(self, x):
        return self.inner(x).unflatten(1, (3, 5))


def network(outputs, activation=nn.Tanh):
    return nn.Sequential(nn.Linear(WIDTH, 5), activation(), nn.Linear(5, outputs))


def gaussian(outputs, targets):
    return (outputs - targets).square().sum(-1).exp() - 1


WEIGHTS = (1.0, 2.0, 0.5)
HALF = torch.where(whole(3, EXAMPLES) == 0, -100, whole(3, EXAMPLES))
PADDED = torch.where(whole(4, EXAMPLES, 3) == 0, 4, whole(4, EXAMPLES, 3))
CASES = {
    "classes": (CrossEntropy(), network(3), whole(3, EXAMPLES), functional.cross_entropy),
    "smoothed": (
        CrossEntropy(label_smoothing=0.1),
        network(3),
        whole(3, EXAMPLES),
        lambda o, t: functional.cross_entropy(o, t, label_smoothing=0.1),
    ),
    "weighted": (
        CrossEntropy(class_weights=WEIGHTS),
        network(3),
        whole(3, EXAMPLES),
        lambda o, t: functional.cross_entropy(o, t, weight=o.new_tensor(WEIGHTS)),
    ),
    "ignored": (
        CrossEntropy(ignore_index=-100),
        network(3),
        HALF,
        functional.cross_entropy,
    ),
    "soft labels": (
        CrossEntropy(),
        network(3),
        normal(EXAMPLES, 3).softmax(1),
        functional.cross_entropy,
    ),
    "tokens": (
        CrossEntropy(ignore_index=4, class_weights=(1.0, 2.0, 3.0, 1.0, 1.0)),
        Tokens(),
        PADDED,
        lambda o, t: functional.cross_entropy(
            o.flatten(0, 1), t.flatten(), o.new_tensor([1.0, 2, 3, 1, 1]), ignore_index=4
        ),
    ),
    "regression": (LOSSES["mse"](), network(2), normal(EXAMPLES, 2), functional.mse_loss),
    "one number": (
        LOSSES["mse"](),
        network(1),
        normal(EXAMPLES),
        lambda o, t: functional.mse_loss(o[:, 0], t),
    ),
    "absolute": (LOSSES["mae"](), network(2), normal(EXAMPLES, 2), functional.l1_loss),
    "huber": (
        LOSSES["huber"](delta=0.5),
        network(2),
        normal(EXAMPLES, 2),
        lambda o, t: functional.huber_loss(o, t, delta=0.5),
    ),
    "several labels": (
        LOSSES["bce"](positive_weight=3.0),
        network(2),
        whole(2, EXAMPLES, 2),
        lambda o, t: functional.binary_cross_entropy_with_logits(
            o, t.to(o.dtype), pos_weight=o.new_tensor(3.0)
        ),
    ),
    "log-probabilities": (
        LOSSES["nll"](),
        nn.Sequential(network(3), nn.LogSoftmax(1)),
        whole(3, EXAMPLES),
        functional.nll_loss,
    ),
    "counts": (
        LOSSES["poisson"](),
        network(1),
        whole(5, EXAMPLES, 1),
        functional.poisson_nll_loss,
    ),
    "a user's": (
        UserLoss(gaussian),
        network(1),
        0.1 * normal(EXAMPLES, 1),
        lambda o, t: gaussian(o, t).mean(),
    ),
}
RIDGE = Ridge(0.03)


def plain(module, row, inputs, targets, loss, ridge=0.03):
    """The loss with its ridge, gradient and Hessian, by `torch.func` over the module itself."""
    names = [(name, p.shape) for name, p in module.named_parameters()]

    def at(point):
        parts = point.split([shape.numel() for _, shape in names])
        state = {n: part.view(shape) for (n, shape), part in zip(names, parts, strict=True)}
        outputs = torch.func.functional_call(module, state, (inputs,))
        return loss(outputs, targets) + 0.5 * ridge * point.square().sum()

    return at(row), torch.func.grad(at)(row), torch.func.hessian(at)(row)


def setup(name, dtype=torch.float64, batch_size=EXAMPLES, strategy=None):
    loss, module, targets, reference = CASES[name]
    inputs = normal(EXAMPLES, WIDTH).to(dtype)
    moved = targets.to(dtype) if targets.is_floating_point() else targets
    objective = ModuleObjective(
        module.to(dtype),
        inputs,
        moved,
        batch_size=batch_size,
        loss=loss,
        ridge=RIDGE,
        strategy=strategy,
    )
    rows = 0.5 * normal(3, objective.dimension).to(dtype)
    return objective, rows, (module, inputs, moved, reference)


@pytest.mark.parametrize("name", CASES)
def test_losses_gradients_and_curvature_are_plain_pytorchs(name):
    """Of every loss and kind of target, with a ridge, by every strategy, to 1e-9 in float64."""
    loss, module, targets, _ = CASES[name]
    inputs = normal(EXAMPLES, WIDTH)
    for strategy in strategies(module.double(), inputs, targets, loss=loss):
        objective, rows, (module, inputs, moved, reference) = setup(name, strategy=strategy)
        losses, gradients = objective.gradients(rows, Step(0, 0, 0))
        whole_set = objective.losses(rows)
        full_losses, full = objective.full_gradients(rows)
        vectors = normal(3, objective.dimension).flip(0)
        products = objective.hessian_vector_products(rows, vectors)
        for i, row in enumerate(rows):
            value, slope, hessian = plain(module, row, inputs, moved, reference)
            for found in (losses[i], whole_set[i], full_losses[i]):
                torch.testing.assert_close(found, value, rtol=1e-9, atol=1e-12)
            for found in (gradients[i], full[i]):
                torch.testing.assert_close(found, slope, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(products[i], hessian @ vectors[i], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_segments_and_paths_agree_with_points(name):
    """Heights on segments are losses of their points; several paths give what each gives alone."""
    objective, rows, _ = setup(name, batch_size=8)
    alphas = torch.tensor([[0.0, 0.3, 1.0], [0.5, 0.9, 0.2]], dtype=torch.float64)
    points = torch.lerp(rows[:-1, None], rows[1:, None], alphas[..., None]).flatten(0, 1)
    expected = objective.losses(points).view(2, 3)
    found = objective.losses_on_segments(rows[:-1], rows[1:], alphas)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    steps = [Step(1, 0, 2), Step(2, 0, 2)]
    losses, gradients = objective.gradients_of_paths(torch.stack([rows, rows + 0.1]), steps)
    for i, step in enumerate(steps):
        alone = objective.gradients(rows + 0.1 * i, step)
        torch.testing.assert_close(losses[i], alone[0], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(gradients[i], alone[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_minibatches_are_unbiased(name):
    """The mean of the gradients of an epoch is that of the whole set, weights and ignored targets too."""
    objective, rows, _ = setup(name, batch_size=10)
    assert objective.batches == 3
    mean = torch.stack([objective.gradients(rows, Step(0, 0, b))[1] for b in range(3)]).mean(0)
    torch.testing.assert_close(mean, objective.full_gradients(rows)[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["classes", "tokens", "regression", "several labels"])
def test_float32_data_take_float64_points(name):
    """Points in float64 are evaluated in float64 on the data as they are, and curvature too."""
    objective, rows, (module, inputs, targets, reference) = setup(name, torch.float32)
    wide = rows.double()
    x, y = inputs.double(), targets.double() if targets.is_floating_point() else targets
    value, slope, hessian = plain(module.double(), wide[0], x, y, reference)
    assert objective.losses(rows).float().tolist() == pytest.approx(
        objective.losses(wide).tolist(), rel=1e-5
    )
    assert float(objective.losses(wide)[0]) == pytest.approx(value.item(), rel=1e-12)
    gradient = objective.gradients(wide, Step(0, 0, 0))[1][0]
    torch.testing.assert_close(gradient, slope, rtol=1e-10, atol=1e-13)
    products = curvature.hessian_vector_products(objective, wide[:1], wide[1:2])
    assert isinstance(objective, CurvatureObjective)
    torch.testing.assert_close(products[0], hessian @ wide[1], rtol=1e-9, atol=1e-12)


def test_a_ridge_on_some_parameters():
    """A pattern chooses the parameters by name; one that fits none is refused with the names."""
    module = network(2).double()
    inputs, targets = normal(EXAMPLES, WIDTH), normal(EXAMPLES, 2)
    with_ridge, without = (
        ModuleObjective(module, inputs, targets, batch_size=9, loss=LOSSES["mse"](), ridge=ridge)
        for ridge in (Ridge(0.5, r"weight$"), None)
    )
    row = normal(1, with_ridge.dimension)
    views = with_ridge.layout.views(row)
    expected = 0.25 * (views["0.weight"].square().sum() + views["2.weight"].square().sum())
    added = with_ridge.losses(row) - without.losses(row)
    torch.testing.assert_close(added[0], expected, rtol=1e-10, atol=0)
    with pytest.raises(ValueError, match=r"ridge_on is 'bais', which matches no .*0\.bias"):
        Ridge(0.5, "bais").on(with_ridge.layout)


@pytest.mark.parametrize(
    ("loss", "targets", "says"),
    [
        ("cross_entropy", torch.tensor([1, -1]), "number classes from 0"),
        ("cross_entropy", torch.tensor([0.5, 0.1]), r"probabilities of shape \[n, classes\]"),
        ("bce", torch.tensor([0, 2]), "labels from 0 to 1; the targets go from 0 to 2"),
        ("nll", torch.tensor([0.5]), "class numbers"),
        ("poisson", torch.tensor([-1.0]), "some targets are negative"),
    ],
)
def test_targets_that_a_loss_cannot_take(loss, targets, says):
    """They are refused with what the loss takes."""
    with pytest.raises(ValueError, match=says):
        LOSSES[loss]().output_size(targets)


def test_a_users_loss_must_be_one_value_an_example():
    """A mean over the batch is refused, since the whole set is evaluated in chunks."""
    with pytest.raises(ValueError, match="one value an example"):
        UserLoss(functional.mse_loss).values(normal(4, 1), normal(4, 1))


@pytest.mark.parametrize("name", LOSSES)
def test_a_run_file_may_give_every_option_of_a_loss(name):
    """The options of the registry, which are checked without torch, are the fields of the loss."""
    assert LOSSES[name].options == tuple(field.name for field in fields(LOSSES[name]()))


def test_a_loss_from_outside(monkeypatch):
    """One class and one entry: run files accept its name and options, and networks are evaluated with it."""

    @dataclass(frozen=True)
    class Margin(PerExampleLoss):
        width: float = 1.0

        def values(self, outputs, targets):
            return (self.width - targets * outputs[:, 0]).clamp_min(0)

    monkeypatch.setattr(LOSSES, "_entries", dict(LOSSES._entries))
    LOSSES.register("margin", LossKind(Margin, "mean margin loss", ("width",)))
    spec = LossSpec.parse({"name": "margin", "width": 2.0})
    assert spec.description == "mean margin loss (width 2.0)"
    module, inputs, signs = nn.Linear(3, 1).double(), normal(8, 3), normal(8).sign()
    objective = ModuleObjective(module, inputs, signs, batch_size=8, loss=make_loss(spec))
    row = nn.utils.parameters_to_vector(module.parameters()).detach()[None]
    expected = (2 - signs * module(inputs)[:, 0]).clamp_min(0).mean().item()
    assert float(objective.losses(row)[0]) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="did you mean margin"):
        LossSpec.parse({"name": "margni"})
