"""Kinds of tasks: each is one class of tasks and one function."""

from dataclasses import dataclass

import torch

from tests.helpers.problems import problem_of
from tests.helpers.records import minimum_record
from workers.execution.task_kinds import TASK_KINDS
from workers.execution.worker import Worker, WorkerContext
from workers.problems.evaluation import Evaluation
from workers.problems.loaded_problem import load_problem
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store
from workers.storage.schema import MinimumRecord
from workers.tasks.problem import Problem
from workers.tasks.results import Done
from workers.tasks.task import Task


def test_a_kind_of_task_from_outside(tmp_path, monkeypatch):
    """One class and one function: a worker runs the task, hands it what it reads and publishes its record."""

    @dataclass(frozen=True)
    class AverageMinima(Task):
        noun, key, title = "minimum", "mean", "the mean of two minima"
        problem: Problem
        depends_on: tuple[str, ...] = ("a", "b")

    def average(task, context):
        ends = [context.loaded.flat(context.store.read_minimum(name)) for name in task.objects]
        mean = torch.stack(ends).mean(0)
        name = context.store.publish_minimum(task.key, context.loaded.state_dict(mean))
        return minimum_record(task.key, object_=name)

    monkeypatch.setitem(TASK_KINDS, AverageMinima, average)

    store = Store(open_objects(str(tmp_path)))
    worker = Worker(WorkerContext(str(tmp_path), 1, Evaluation()), "worker")
    task = AverageMinima(problem_of({"name": "fc", "hidden": [2]}, {"name": "digits"}))
    loaded = load_problem(task.problem, Evaluation())
    ends = {k: loaded.initial_point(seed) for seed, k in enumerate("ab")}
    names = {k: store.publish_minimum(k, loaded.state_dict(end)) for k, end in ends.items()}
    (result,) = worker.run([task.with_objects(names)])
    assert isinstance(result, Done) and result.key == "mean"
    (record,) = Store(open_objects(str(tmp_path))).records(MinimumRecord)
    mean = loaded.flat(store.read_minimum(record.object))
    assert torch.equal(mean, torch.stack([*ends.values()]).mean(0))
