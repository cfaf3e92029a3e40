"""Batch norm along a path: statistics belong to a point, so they are computed there, never carried over.

Gradients use the statistics of their minibatch, as in training. Losses that are reported use statistics
of the training set at the very point; those of two networks are never interpolated.
"""

import copy
import itertools

import pytest
import safetensors.torch
import torch
from torch import nn

from topo_core.objectives.curvature import hessian_vector_products
from topo_core.objectives.minibatches import CHUNK
from topo_core.objectives.network_loss import ModuleObjective
from topo_core.objectives.protocol import Step
from topo_core.paths.polyline import line
from topo_core.paths.solver import PathSolver
from workers.execution import stationarity
from workers.execution.progress import TaskProgress
from workers.execution.task_run import TaskContext
from workers.execution.train_minimum import train_minimum
from workers.problems.evaluation import Evaluation
from workers.problems.loaded_problem import load_problem
from workers.problems.networks import build
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store
from workers.tasks.minimum_settings import MinimumSettings
from workers.tasks.minimum_tasks import TrainMinimum
from workers.tasks.path_tasks import PathTaskSettings
from workers.tasks.problem import Problem
from workers.tasks.specs import DataSpec, NetworkSpec

NETWORK = NetworkSpec.parse({"name": "cnn2", "channels": 3, "batch_norm": True})
STRATEGIES = ["literal", "functional", "channels_last"]


@pytest.fixture(scope="module")
def loaded():
    """A small convolutional network with batch norm on all training digits (two chunks of examples)."""
    problem = Problem(NETWORK, DataSpec("digits"), "data", "network")
    found = load_problem(problem, Evaluation())
    assert len(found.data.train_inputs) > CHUNK
    return found


@pytest.fixture(scope="module")
def trained(loaded, tmp_path_factory):
    """Two trained minima in a store, which are not classified: (their records, the store)."""
    store = Store(open_objects(str(tmp_path_factory.mktemp("run"))))
    settings = MinimumSettings(epochs=2)
    tasks = [TrainMinimum(loaded.problem, settings, index, seed=0) for index in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stationarity, "LARGEST", 0)
        context = TaskContext(loaded, store, TaskProgress())
        return [train_minimum(task, context) for task in tasks], store


def own_loss(module, data):
    """The loss of a network in evaluation, by its own forward pass, added up in float64."""
    with torch.no_grad():
        outputs = module.eval()(data.train_inputs)
    return float(nn.functional.cross_entropy(outputs.double(), data.train_targets))


def with_statistics_of(module, data):
    """A copy whose batch-norm statistics are pooled over the chunks of the training set, by their sizes."""
    module = copy.deepcopy(module).train()
    layers = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    seen = {layer: [] for layer in layers}
    for layer in layers:
        layer.register_forward_pre_hook(
            lambda layer, inputs: seen[layer].append(inputs[0].transpose(0, 1).flatten(1).double())
        )
    with torch.no_grad():
        for chunk in data.train_inputs.split(CHUNK):
            module(chunk)
        for layer in layers:
            values = torch.cat(seen[layer], dim=1)
            layer.running_mean.copy_(values.mean(1))
            layer.running_var.copy_(values.var(1))
    return module


def at(point, loaded):
    """The user's network with the weights of a point."""
    module = build(NETWORK, loaded.data.input_shape, loaded.data.classes)
    with torch.no_grad():
        nn.utils.vector_to_parameters(point, module.parameters())
    return module


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_endpoint_has_the_loss_of_the_trained_network(loaded, trained, strategy):
    """Both ends of an optimised path cost what the stored networks cost by themselves."""
    records, store = trained
    objective = ModuleObjective(
        loaded.module,
        loaded.data.train_inputs,
        loaded.data.train_targets,
        batch_size=256,
        strategy=strategy,
    )
    ends = [loaded.flat(store.read_minimum(record.object)) for record in records]
    settings = PathTaskSettings(points=5, start="line", epochs=1)
    solver = PathSolver(objective, settings)
    state = solver.begin(line(*ends, 5))
    found = solver.solution(solver.advance(state, 0, until_epoch=1))
    for record, position in zip(records, (0, -1), strict=True):
        module = build(NETWORK, loaded.data.input_shape, loaded.data.classes)
        module.load_state_dict(safetensors.torch.load(store.objects.get(record.object)))
        own = own_loss(module, loaded.data)
        assert float(found.profile.losses[position]) == pytest.approx(own, rel=1e-5)
        assert record.loss == pytest.approx(own, rel=1e-5)


def test_inside_a_path_statistics_are_those_of_the_point(loaded, trained):
    """Half-way, the loss is that of statistics recomputed there; interpolated ones would give another."""
    records, store = trained
    states = [store.read_minimum(record.object) for record in records]
    ends = [loaded.flat(state) for state in states]
    middle = torch.lerp(*ends, 0.5)
    measured = float(loaded.objective(256).losses(middle[None])[0])

    recomputed = with_statistics_of(at(middle, loaded), loaded.data)
    assert measured == pytest.approx(own_loss(recomputed, loaded.data), rel=1e-5)

    interpolated = at(middle, loaded)
    for name, buffer in interpolated.named_buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.lerp(states[0][name], states[1][name], 0.5))
    assert abs(own_loss(interpolated, loaded.data) - measured) > 0.01 * measured


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_gradients_use_the_statistics_of_their_minibatch(loaded, strategy):
    """The gradient is that of the network in training on the same examples, in float64."""
    data = loaded.data
    module = copy.deepcopy(loaded.module).double()
    objective = ModuleObjective(
        module,
        data.train_inputs.double(),
        data.train_targets,
        batch_size=64,
        strategy=strategy,
    )
    step = Step(3, 1, 2)
    points = torch.stack([loaded.initial_point(seed).double() for seed in (1, 2)])
    losses, gradients = objective.gradients(points, step)
    inputs, targets = objective.minibatch(step)
    for point, loss, gradient in zip(points, losses, gradients, strict=True):
        plain = at(point, loaded).double().train()
        nn.utils.vector_to_parameters(point, plain.parameters())
        expected = nn.functional.cross_entropy(plain(inputs), targets)
        expected.backward()
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=0)
        row = torch.cat([p.grad.flatten() for p in plain.parameters()])
        torch.testing.assert_close(gradient, row, rtol=1e-9, atol=1e-12)


def test_the_users_statistics_do_not_matter(loaded):
    """The module that a problem was made of may hold any statistics: no loss looks at them."""
    point = loaded.initial_point(4)[None]
    data = loaded.data
    spoiled = copy.deepcopy(loaded.module)
    for layer in spoiled.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.fill_(1e3)
            layer.running_var.fill_(1e-3)
    losses = [
        float(
            ModuleObjective(m, data.train_inputs, data.train_targets, batch_size=64).losses(point)
        )
        for m in (loaded.module, spoiled)
    ]
    assert losses[0] == losses[1]


def test_the_order_of_evaluation_does_not_matter(loaded):
    """Losses of several points at once are those of each alone: no statistics leak between points."""
    objective = loaded.objective(256)
    points = torch.stack([loaded.initial_point(seed) for seed in range(3)])
    together = objective.losses(points)
    for order in itertools.permutations(range(3)):
        assert torch.equal(objective.losses(points[list(order)]), together[list(order)])


def test_all_strategies_are_named(loaded):
    """The strategies that these tests name are those that such a network allows."""
    assert set(loaded.strategies()) == set(STRATEGIES)


@pytest.mark.parametrize("count", [7, CHUNK + 1, CHUNK + 2, 2 * CHUNK + 500])
def test_statistics_are_pooled_with_the_sizes_of_chunks(count):
    """Part B, 2: an outlier in a short last chunk weighs as one example, and one example is no error."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, 3, generator=draw, dtype=torch.float64)
    inputs[-1] += 20
    targets = torch.randint(2, (count,), generator=draw)
    module = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)).double()
    objective = ModuleObjective(module, inputs, targets, batch_size=CHUNK)
    row = nn.utils.parameters_to_vector(module.parameters()).detach()
    found = objective.statistics(row)
    torch.testing.assert_close(found["0.running_mean"], inputs.mean(0), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found["0.running_var"], inputs.var(0), rtol=1e-9, atol=1e-12)
    loss = float(objective.losses(row[None])[0])
    module.load_state_dict({**module.state_dict(), **found})
    outputs = module.eval()(inputs)
    assert loss == pytest.approx(nn.functional.cross_entropy(outputs, targets).item(), rel=1e-9)


def test_a_float32_network_is_measured_at_points_in_float64():
    """Statistics, losses and accuracies at a float64 point are those of the network converted to float64."""
    draw = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(50, 3, generator=draw), torch.arange(50) % 2
    module = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    row = nn.utils.parameters_to_vector(module.parameters()).detach().double()
    objective = ModuleObjective(module, inputs, targets, batch_size=50)
    exact = ModuleObjective(copy.deepcopy(module).double(), inputs.double(), targets, batch_size=50)
    torch.testing.assert_close(objective.statistics(row), exact.statistics(row), rtol=0, atol=0)
    measured = objective.measure(row[None], inputs[:9], targets[:9])
    assert measured == exact.measure(row[None], inputs[:9], targets[:9])


@pytest.mark.parametrize("strategy", ["literal", "functional"])
def test_a_remainder_of_one_example_joins_the_batch_before(strategy):
    """Part B, 2: batch norm has no statistics of one example; every example is still seen once an epoch."""
    inputs, targets = torch.randn(101, 3), torch.arange(101) % 2
    module = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    objective = ModuleObjective(module, inputs, targets, batch_size=20, strategy=strategy)
    rows = nn.utils.parameters_to_vector(module.parameters()).detach()[None]
    steps = [Step(0, 0, batch) for batch in range(objective.batches)]
    assert [len(objective.minibatch(step)[0]) for step in steps] == [20, 20, 20, 20, 21]
    assert all(objective.gradients(rows, step)[1].isfinite().all() for step in steps)


def test_norms_that_track_nothing_are_evaluated_on_the_whole_set():
    """With track_running_stats=False as without: statistics of the training set, not of a chunk."""
    inputs, targets = (
        torch.randn(CHUNK + 300, 3, dtype=torch.float64),
        torch.arange(CHUNK + 300) % 2,
    )
    losses = []
    for tracked in (True, False):
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.BatchNorm1d(3, track_running_stats=tracked), nn.Linear(3, 2)
        ).double()
        row = nn.utils.parameters_to_vector(module.parameters()).detach()
        objective = ModuleObjective(module, inputs, targets, batch_size=100)
        losses.append(float(objective.losses(row[None])[0]))
    assert losses[0] == losses[1]


class Doubled(nn.BatchNorm1d):
    """A batch norm with its own forward pass."""

    def forward(self, x):
        return 2 * super().forward(x)


class Twice(nn.Module):
    """A network that calls one of its batch norms twice and never calls another."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 4)
        self.norm, self.unused = nn.BatchNorm1d(4, affine=False), nn.BatchNorm1d(4)
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.norm(self.second(torch.tanh(self.norm(self.first(x))))))


NORMED = {
    "two layers": lambda: nn.Sequential(
        nn.BatchNorm1d(3),
        nn.Linear(3, 5),
        nn.BatchNorm1d(5),
        nn.Tanh(),
        nn.Linear(5, 4),
        nn.BatchNorm1d(4),
        nn.Tanh(),
        nn.Linear(4, 2),
    ),
    "one layer called twice": Twice,
    "own forward pass": lambda: nn.Sequential(
        nn.Linear(3, 4), Doubled(4), nn.Tanh(), nn.Linear(4, 2)
    ),
    "images": lambda: nn.Sequential(
        nn.Unflatten(1, (3, 1, 1)),
        nn.Conv2d(3, 4, 1),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Linear(4, 2),
    ),
}


@pytest.mark.parametrize("network", NORMED)
@pytest.mark.parametrize("count", [9, 2 * CHUNK + 1])
def test_full_gradients_are_those_of_the_loss_that_is_reported(network, count):
    """Full gradients and Hessian products agree with differences of the losses, through the statistics.

    They used the statistics of chunks, with the biased variance, where losses use those of the set.
    """
    draw = torch.Generator().manual_seed(1)
    inputs = 1 + torch.randn(count, 3, generator=draw, dtype=torch.float64)
    targets = torch.randint(2, (count,), generator=draw)
    module = NORMED[network]().double()
    objective = ModuleObjective(module, inputs, targets, batch_size=count, strategy="literal")
    point = torch.randn(objective.dimension, generator=draw, dtype=torch.float64)
    direction = torch.randn(objective.dimension, generator=draw, dtype=torch.float64)
    losses, gradients = objective.full_gradients(point[None])
    torch.testing.assert_close(losses, objective.losses(point[None]), rtol=1e-12, atol=0)
    step = 1e-5 * direction
    ahead, behind = objective.losses(torch.stack([point + step, point - step]))
    slope = float(ahead - behind) / 2e-5
    assert float(gradients[0] @ direction) == pytest.approx(slope, rel=1e-6, abs=1e-9)
    product = hessian_vector_products(objective, point[None], direction[None])[0]
    both = objective.full_gradients(torch.stack([point + step, point - step]))[1]
    torch.testing.assert_close(product, (both[0] - both[1]) / 2e-5, rtol=1e-4, atol=1e-6)
    # One minibatch is the whole set, so its gradient is exact as well.
    assert objective.batches == 1
    torch.testing.assert_close(objective.gradients(point[None], Step(0, 0, 0))[1], gradients)


@pytest.mark.parametrize("network", NORMED)
def test_the_loss_of_a_set_is_that_of_plain_pytorch(network):
    """With statistics of its own forward pass, set into its running statistics, and in evaluation mode."""
    draw = torch.Generator().manual_seed(2)
    inputs = 1 + torch.randn(30, 3, generator=draw, dtype=torch.float64)
    targets = torch.randint(2, (30,), generator=draw)
    module = NORMED[network]().double()
    objective = ModuleObjective(module, inputs, targets, batch_size=30, strategy="literal")
    row = nn.utils.parameters_to_vector(module.parameters()).detach()
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.momentum = None
            layer.reset_running_stats()
    with torch.no_grad():
        module.train()(inputs)
        expected = nn.functional.cross_entropy(module.eval()(inputs), targets)
    assert float(objective.full_gradients(row[None])[0]) == pytest.approx(
        float(expected), rel=1e-12
    )
