"""A polish after training: what the record proves, when it is done, and that it can be interrupted."""

from dataclasses import replace

import pytest

from tests.helpers.interruptions import check_interruptions, check_stops_within_steps
from tests.helpers.problems import problem_of
from topo_core.paths.update_settings import OptimizerSettings
from workers.execution import stationarity
from workers.execution.minimum_records import minimum_record
from workers.execution.progress import TaskProgress
from workers.execution.stationarity import judge
from workers.execution.task_run import TaskContext
from workers.execution.train_minimum import train_minimum
from workers.problems.evaluation import Evaluation
from workers.problems.loaded_problem import load_problem
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store
from workers.tasks.minimum_settings import MinimumSettings
from workers.tasks.minimum_tasks import TrainMinimum

SETTINGS = MinimumSettings(epochs=3, optimizer=OptimizerSettings("adam", lr=0.01))


def loaded_with(loss):
    return load_problem(
        problem_of(
            {"name": "fc", "hidden": [2], "activation": "tanh"},
            {"name": "digits", "subset": 60},
            loss=loss,
        ),
        Evaluation(),
    )


@pytest.fixture(scope="module")
def with_ridge():
    return loaded_with({"name": "cross_entropy", "ridge": 1e-2})


@pytest.fixture
def context(tmp_path, with_ridge):
    return TaskContext(with_ridge, Store(open_objects(str(tmp_path / "run"))), TaskProgress())


def test_a_loss_with_a_ridge_ends_at_a_proved_minimum(context):
    """The record says that the gradient vanishes, how low the curvature is and how sure that is, what it
    cost, and which part of the loss is the ridge."""
    task = TrainMinimum(context.loaded.problem, SETTINGS, 0, 5)
    record = train_minimum(task, context)
    assert record.verdict == "minimum" and record.polished
    assert record.gradient_norm <= record.gradient_tolerance < 1e-8
    assert record.eigenvalues[0] > record.eigenvalue_bounds[0] > 0
    assert record.judging_gradients > 10 and record.judging_products > 0
    assert record.training_gradients == 3 * context.loaded.objective(SETTINGS.batch_size).batches
    point = context.loaded.flat(context.store.read_minimum(record.object))
    assert record.ridge == pytest.approx(0.5e-2 * float(point.double().square().sum()), rel=1e-5)
    assert 0 < record.ridge < record.loss


@pytest.mark.slow
def test_the_record_says_which_symmetries_explain_zero_modes(tmp_path):
    """Regression on digits, in 45 s: the minimum is flat along exact symmetries and along nothing else.

    A softmax does not see one number added to all outputs, and some pixels have one value in all examples.
    """
    loaded = load_problem(
        problem_of(
            {"name": "fc", "hidden": []},
            {"name": "digits", "subset": 500},
            loss={"name": "cross_entropy", "label_smoothing": 0.1},
        ),
        Evaluation(),
    )
    context = TaskContext(loaded, Store(open_objects(str(tmp_path / "run"))), TaskProgress())
    settings = replace(SETTINGS, polish="on")
    record = train_minimum(TrainMinimum(loaded.problem, settings, 0, 5), context)
    constant = int((loaded.data.train_inputs.flatten(1).std(0) < 1e-6).sum())
    assert record.verdict == "flat" and constant > 0
    assert record.zero_modes == record.symmetry_modes >= 65 + 9 * constant
    assert "65 explained by shifts of weights of the outputs" in record.verdict_reason
    assert "0 unexplained" in record.verdict_reason
    assert record.eigenvalues[0] > record.eigenvalue_bounds[0] > 0


def test_an_interrupted_polish_gives_the_same_bits(context, tmp_path, monkeypatch):
    """Stopped at every checkpoint, of training and of the polish, a task publishes the same bytes."""
    monkeypatch.setattr("workers.execution.train_minimum.POLISH_ITERATIONS", 15)
    task = TrainMinimum(context.loaded.problem, SETTINGS, 0, 5)
    _, stops = check_interruptions(train_minimum, task, context, tmp_path / "broken")
    assert stops > 5


def test_a_stop_within_a_polish_gives_the_same_bits(context, tmp_path):
    """Fifty iterations take minutes on large networks; the task ends at the next evaluation."""
    task = TrainMinimum(context.loaded.problem, SETTINGS, 0, 5)
    check_stops_within_steps(train_minimum, task, context, tmp_path / "broken", [23, 60])


def test_without_a_ridge_nothing_is_called_a_minimum(tmp_path):
    """Cross entropy alone has no minimum: training is not continued, and the record says so, for the price of
    some tens of gradients and without eigenvalues."""
    loaded = loaded_with(None)
    context = TaskContext(loaded, Store(open_objects(str(tmp_path))), TaskProgress())
    record = train_minimum(TrainMinimum(loaded.problem, SETTINGS, 0, 5), context)
    assert not record.polished and record.verdict in ("not stationary", "unbounded")
    assert record.gradient_norm > record.gradient_tolerance and record.eigenvalues == ()
    assert record.judging_gradients == 37 and record.judging_products == 8


def test_large_problems_are_neither_polished_nor_judged(context, monkeypatch):
    """Above the limit `auto` leaves the point where training ended, and `on` polishes it all the same."""
    monkeypatch.setattr(stationarity, "LARGEST", 1000)
    task = TrainMinimum(context.loaded.problem, SETTINGS, 0, 5)
    record = train_minimum(task, context)
    assert (record.verdict, record.polished) == ("", False)
    on = replace(task, settings=replace(SETTINGS, polish="on"))
    assert train_minimum(on, context).verdict == "minimum"
    assert on.key != task.key


def test_a_tolerance_of_ones_own(context):
    """With `gradient_tolerance` the polish ends as soon as the gradient is that small."""
    task = TrainMinimum(context.loaded.problem, SETTINGS, 0, 5)
    loose = replace(task, settings=replace(SETTINGS, gradient_tolerance=1e-3))
    record, tight = train_minimum(loose, context), train_minimum(task, context)
    assert tight.gradient_tolerance < record.gradient_norm <= record.gradient_tolerance == 1e-3
    assert record.judging_gradients < tight.judging_gradients


def test_the_record_names_what_keeps_a_polish_from_a_minimum(tmp_path):
    """Layer norm cancels the size of the weights before it, so a ridge makes them smaller until eps counts,
    and no descent ends there. A point that is not stationary says so; one whose stream varies does not."""
    loaded = load_problem(
        problem_of(
            {"name": "transformer", "width": 4, "heads": 1, "layers": 1},
            {"name": "text", "context": 4, "subset": 20},
            loss={"name": "cross_entropy", "ridge": 1e-3},
        ),
        Evaluation(),
    )
    context = TaskContext(loaded, Store(open_objects(str(tmp_path))), TaskProgress())
    task = TrainMinimum(loaded.problem, replace(SETTINGS, polish="off"), 0, 5)
    for factor, named in [(0.1, True), (30.0, False)]:
        point = factor * loaded.initial_point(0)
        critical = judge(loaded, point, seed=0)
        record = minimum_record(
            task, context, point, source="", stop_reason="epochs", critical=critical
        )
        assert record.verdict == "not stationary"
        assert ("'blocks.0.before_attention'" in record.verdict_reason) == named
        assert ("larger eps" in record.verdict_reason) == named
