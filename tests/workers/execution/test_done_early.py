"""A path that is as low as its higher end is done before its last epoch, and a longer run of it is, too."""

from dataclasses import replace

import pytest

from tests.helpers.problems import problem_of
from topo_core.paths.coordinate_units import PROBES
from topo_core.paths.update_settings import OptimizerSettings
from workers.execution import path_starts
from workers.execution.path_task import PathRun
from workers.execution.progress import TaskProgress
from workers.execution.task_run import TaskContext
from workers.execution.worker import Worker, WorkerContext
from workers.problems.evaluation import Evaluation
from workers.problems.loaded_problem import load_problem
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store
from workers.storage.schema import PairRecord
from workers.tasks.path_tasks import OptimizePath, PathFamily, PathTaskSettings
from workers.tasks.results import Done

PROBLEM = problem_of({"name": "fc", "hidden": [8]}, {"name": "digits", "subset": 200})
# Between random weights a curve goes down at once.
WORK = PathTaskSettings(
    points=6,
    epochs=20,
    batch_size=64,
    bezier_epochs=20,
    optimizer=OptimizerSettings("adam", lr=0.01),
)

OBJECTS: dict[str, str] = {}
"""Names of the objects of the two ends, by key."""


def task(epochs, *, goes_on=False):
    family = PathFamily(PROBLEM, replace(WORK, epochs=epochs), seed=1)
    return OptimizePath(family, 0, 1, "a", "b", goes_on=goes_on).with_objects(OBJECTS)


@pytest.fixture
def worker(tmp_path):
    """Makes a worker on a folder with the two ends in it; and its store."""

    def make(name):
        store = Store(open_objects(str(tmp_path / name)))
        loaded = load_problem(PROBLEM, Evaluation())
        for seed, key in enumerate("ab"):
            OBJECTS[key] = store.publish_minimum(key, loaded.state_dict(loaded.initial_point(seed)))
        context = WorkerContext(str(tmp_path / name), 1, Evaluation(strategy="linear"))
        return Worker(context, "worker", lambda: False), store

    return make


def record_of(store, wanted):
    return next(record for record in store.records(PairRecord) if record.key == wanted.key)


def test_nothing_is_spent_on_a_path_that_cannot_go_lower(worker):
    """Twenty epochs were allowed and none was needed: the gradients are those of the curve."""
    one, store = worker("one")
    assert isinstance(one.run([task(20)])[0], Done)
    found = record_of(store, task(20))
    ends = [found.losses[0], found.losses[-1]]
    assert found.height == max(ends)
    assert found.outcome == "converged" and found.remaining_fall == 0.0
    assert found.gradient_evaluations == PROBES + 20 * 4  # minibatches of 64 of 200 digits
    assert one.counters()["path_epochs"] == 0


def test_a_longer_run_takes_it_over(worker, monkeypatch):
    """On a later rung the path is read and not computed again, with the bits of a run without rungs."""
    rungs, store = worker("rungs")
    assert isinstance(rungs.run([task(5, goes_on=True)])[0], Done)

    def computed(*_, **__):
        raise AssertionError("the initial path is computed again")

    with monkeypatch.context() as patch:
        patch.setattr(path_starts, "train_curves", computed)
        assert isinstance(rungs.run([task(20)])[0], Done)
    alone, other = worker("alone")
    alone.run([task(20)])
    assert record_of(store, task(20)).losses == record_of(other, task(20)).losses


def test_the_state_for_a_longer_run_is_of_the_epoch_in_which_it_was_done(worker):
    """It lies under the lineage, where longer runs look, and not under the key of the short one."""
    one, store = worker("one")
    short = task(5, goes_on=True)
    one.run([short])
    assert store.latest_checkpoint(short.lineage).epoch == 0
    assert store.latest_checkpoint(short.key) is None
    context = TaskContext(
        load_problem(PROBLEM, Evaluation(strategy="linear")), store, TaskProgress()
    )
    run = PathRun(task(20), context)
    assert run.is_finished(run.resumed())
