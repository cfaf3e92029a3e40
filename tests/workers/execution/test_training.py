"""Training a minimum: the optimisers against torch's own, the rates by hand, and going on bit for bit."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from topo_core.objectives.protocol import Step
from topo_core.paths.schedules import Schedule
from topo_core.paths.update_settings import OptimizerSettings
from workers.execution.progress import Interrupted, TaskFailure, TaskProgress
from workers.execution.task_run import TaskContext
from workers.execution.train_minimum import train_minimum
from workers.execution.training import TrainingState, begin, train_until
from workers.problems.evaluation import Evaluation
from workers.problems.loaded_problem import load_problem
from workers.problems.networks import build
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store
from workers.tasks.minimum_settings import MinimumSettings
from workers.tasks.minimum_tasks import TrainMinimum
from workers.tasks.problem import Problem
from workers.tasks.results import FailureKind
from workers.tasks.specs import DataSpec, NetworkSpec

NETWORK = NetworkSpec.parse({"name": "fc", "hidden": [8]})
DATA = DataSpec.parse({"name": "digits", "subset": 300})
BATCH, BATCHES = 64, 5
SGD, MOMENTUM, ADAM = (
    OptimizerSettings(name="sgd", lr=0.1),
    OptimizerSettings(name="momentum", lr=0.05, momentum=0.9),
    OptimizerSettings(name="adam", lr=3e-3),
)


@pytest.fixture(scope="module")
def loaded():
    return load_problem(Problem(NETWORK, DATA, "data", "network"), Evaluation())


@pytest.fixture
def store(tmp_path):
    return Store(open_objects(str(tmp_path / "run")))


def settings(**changes):
    constant = {"batch_size": BATCH, "schedule": Schedule("constant"), "epochs": 4}
    return MinimumSettings(**{**constant, **changes})


def trained(loaded, chosen, until=10_000, seed=7):
    objective = loaded.objective(chosen.batch_size)
    state = begin(chosen, loaded.initial_point(seed))
    return train_until(objective, state, chosen, seed, epoch=until)


def torchs_own(loaded, chosen, make, seed=7):
    """The point that torch.optim reaches on the same minibatches, by a plain training loop."""
    module = build(NETWORK, loaded.data.input_shape, loaded.data.classes, seed)
    optimizer = make(module.parameters())
    objective = loaded.objective(chosen.batch_size)
    for epoch in range(chosen.epochs):
        for batch in range(objective.batches):
            inputs, targets = objective.minibatch(Step(seed, epoch, batch))
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(inputs), targets).backward()
            optimizer.step()
    return nn.utils.parameters_to_vector(module.parameters()).detach()


@pytest.mark.parametrize(
    ("optimizer", "l2", "make"),
    [
        (SGD, 0.0, lambda p: torch.optim.SGD(p, lr=0.1)),
        (SGD, 1e-2, lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=1e-2)),
        (MOMENTUM, 0.0, lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)),
        (ADAM, 0.0, lambda p: torch.optim.Adam(p, lr=3e-3)),
    ],
)
def test_the_optimisers_are_torchs(loaded, optimizer, l2, make):
    """Twenty steps end where torch.optim's end on the same minibatches, up to rounding."""
    chosen = settings(optimizer=optimizer, l2=l2)
    found = trained(loaded, chosen).point[0]
    expected = torchs_own(loaded, chosen, make)
    moved = (expected - loaded.initial_point(7)).norm()
    assert float((found - expected).norm() / moved) < 1e-3


def test_an_epoch_sees_every_example_once(loaded):
    """The minibatches of an epoch are a partition of the training set, in another order each epoch."""
    objective = loaded.objective(BATCH)
    assert objective.batches == BATCHES
    orders = []
    for epoch in range(2):
        rows = torch.cat([objective.minibatch(Step(7, epoch, b))[0] for b in range(BATCHES)])
        orders.append([row.numpy().tobytes() for row in rows.flatten(1)])
    every = sorted(row.numpy().tobytes() for row in loaded.data.train_inputs.flatten(1))
    assert sorted(orders[0]) == sorted(orders[1]) == every
    assert orders[0] != orders[1]


def last_rates(state):
    """The rate of the last minibatch of each epoch."""
    return [rate for _, _, rate in state.history]


def test_the_schedule_of_the_paper(loaded):
    """S(1, 3, 0.1, 0.02): full up to epoch 1, linear in batches to epoch 3, low from there."""
    schedule = Schedule("paper", m1=1, m2=3, lr_max=0.1, lr_min=0.02)
    state = trained(loaded, settings(optimizer=SGD, schedule=schedule, epochs=5))
    last = (BATCHES - 1) / BATCHES
    expected = [
        0.1,
        0.1 - 0.08 * last / 2,
        0.1 - 0.08 * (1 + last) / 2,
        0.02,
        0.02,
    ]
    assert last_rates(state) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("table", ["A.1", "A.2"])
def test_the_schedules_of_the_tables(table):
    """S(10, 80, 1e-2, 1e-4) and S(50, 100, 5e-2, 1e-4) half-way down are the mean of their ends."""
    first, last, high = {"A.1": (10, 80, 1e-2), "A.2": (50, 100, 5e-2)}[table]
    schedule = Schedule("paper", m1=first, m2=last, lr_max=high, lr_min=1e-4)
    middle = (first + last) // 2
    assert schedule.rate(middle, 0, 196, 0.5, 300) == pytest.approx((high + 1e-4) / 2)
    assert schedule.rate(first, 0, 196, 0.5, 300) == high
    assert schedule.rate(last, 0, 196, 0.5, 300) == 1e-4


def test_the_cyclic_schedule(loaded):
    """Between lr_min and lr_max and back, linearly, in each period (Smith 2015)."""
    schedule = Schedule("cyclic", lr_min=0.01, lr_max=0.11, period=2)
    state = trained(loaded, settings(optimizer=SGD, schedule=schedule, epochs=4))
    up, down = 0.01 + 0.1 * 0.8, 0.01 + 0.1 * 0.2
    assert last_rates(state) == pytest.approx([up, down, up, down], rel=1e-12)


@pytest.mark.parametrize("optimizer", [SGD, MOMENTUM, ADAM])
def test_in_one_go_or_epoch_by_epoch(loaded, optimizer):
    """Every state is a checkpoint: written down and restored after each epoch, the bits are the same."""
    chosen = settings(optimizer=optimizer, schedule=Schedule("anneal"))
    whole = trained(loaded, chosen)
    state = trained(loaded, chosen, until=1)
    while not state.stop_reason:
        state = TrainingState.restore(state.tensors(), state.scalars())
        objective = loaded.objective(BATCH)
        state = train_until(objective, state, chosen, 7, epoch=state.epoch + 1)
    assert torch.equal(state.point, whole.point)
    assert state.history == whole.history


def test_an_interrupted_task_goes_on(loaded, tmp_path):
    """Stopped at its second checkpoint and started again, a task publishes the same bytes as undisturbed."""
    task = TrainMinimum(loaded.problem, settings(optimizer=MOMENTUM), 0, 5)
    whole, broken = (Store(open_objects(str(tmp_path / name))) for name in ("whole", "broken"))
    undisturbed = train_minimum(task, TaskContext(loaded, whole, TaskProgress()))
    told = []

    def stopping():
        told.append(1)
        return len(told) == 2

    with pytest.raises(Interrupted):
        train_minimum(task, TaskContext(loaded, broken, TaskProgress(stopping)))
    assert broken.latest_checkpoint(task.key).epoch == 2
    assert train_minimum(task, TaskContext(loaded, broken, TaskProgress())) == undisturbed
    assert whole.objects.get(undisturbed.object) == broken.objects.get(undisturbed.object)


def test_stop_loss(loaded):
    """Training stops after the first epoch whose mean loss is low enough, and says why."""
    free = trained(loaded, settings(optimizer=ADAM, epochs=12))
    assert free.stop_reason == "epochs" and free.epoch == 12
    wanted = free.history[5][1]
    stopped = trained(loaded, settings(optimizer=ADAM, epochs=12, stop_loss=wanted))
    assert stopped.stop_reason == "loss"
    assert stopped.history == free.history[: stopped.epoch]
    assert stopped.history[-1][1] <= wanted
    assert all(loss > wanted for _, loss, _ in stopped.history[:-1])


def test_divergence(loaded, store):
    """A rate that is far too high ends the task with a sentence that names the key, and no minimum."""
    wild = replace(SGD, lr=1e30)
    state = trained(loaded, settings(optimizer=wild))
    assert state.stop_reason == "diverged" and not math.isfinite(state.history[-1][1])
    task = TrainMinimum(loaded.problem, settings(optimizer=wild), 0, 5)
    with pytest.raises(TaskFailure, match=r"lower minima\.optimizer\.lr") as failed:
        train_minimum(task, TaskContext(loaded, store, TaskProgress()))
    assert failed.value.kind is FailureKind.DIVERGED
    assert store.completed("minima") == frozenset()
    assert store.latest_checkpoint(task.key) is None


def test_training_lowers_the_loss(loaded, store):
    """Thirty epochs of Adam fit 300 digits well, and the record says how well."""
    task = TrainMinimum(loaded.problem, settings(optimizer=replace(ADAM, lr=0.02), epochs=30), 0, 5)
    record = train_minimum(task, TaskContext(loaded, store, TaskProgress()))
    assert record.accuracy > 0.97 and record.test_accuracy > 0.8
    assert record.loss < record.history[0]["loss"] / 5
    assert (record.epochs, record.stop_reason) == (30, "epochs")


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"epochs": -1}, "epochs is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"l2": -1.0}, "l2 is -1.0"),
        ({"l2": math.inf}, "l2 is inf"),
        ({"stop_loss": 0.0}, "stop_loss is 0.0"),
        ({"optimizer": OptimizerSettings(name="secant")}, "choose adam, sgd or momentum"),
    ],
)
def test_impossible_settings(change, names):
    """Each number that cannot be is refused by its key and value."""
    with pytest.raises(ValueError, match=r"\.$") as refused:
        MinimumSettings(**change)
    assert names in str(refused.value)


def test_the_question_is_named_by_what_decides_the_answer(loaded):
    """Every setting changes the key of a task."""
    base = settings(optimizer=SGD)

    def key(chosen):
        return TrainMinimum(loaded.problem, chosen, 0, 5).key

    others = [
        {"epochs": 5},
        {"batch_size": 32},
        {"optimizer": ADAM},
        {"l2": 1.0},
        {"stop_loss": 1.0},
    ]
    others.append({"schedule": Schedule("anneal")})
    assert len({key(base), *(key(replace(base, **o)) for o in others)}) == len(others) + 1
