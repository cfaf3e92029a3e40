"""One evaluation strategy for each kind of device, on a real executor with devices of pretended kinds."""

from dataclasses import replace

import pytest

from orchestrator.planning.fingerprints import identify
from orchestrator.planning.plan import Plan
from orchestrator.scheduling.executor import InProcess
from orchestrator.scheduling.messages import PackFinished
from tests.helpers.made_run import made_run
from workers.execution import device_strategies
from workers.execution.device_strategies import ChosenFor
from workers.execution.strategy_probe import EvaluationChoice
from workers.execution.worker import WorkerContext
from workers.problems.evaluation import Evaluation
from workers.storage.schema import MinimumRecord
from workers.tasks.results import Done

CHOSEN = Evaluation(strategy="linear")


class Machines:
    """Machines of pretended kinds that train minima of one run; no strategy is timed."""

    def __init__(self, folder, monkeypatch):
        self.made = made_run(folder, 4, minima={"count": 4, "epochs": 1})
        self.plan = Plan(self.made.plan.run, identify(self.made.plan.run))
        self.compared = []
        self._patch = monkeypatch
        monkeypatch.setattr(device_strategies, "choose_evaluation", self._choose)

    def _choose(self, loaded, settings, precision, *, device):
        kind = device_strategies.device_type(device)
        self.compared.append(kind)
        assert settings == self.plan.path_settings and precision == "float32"
        return EvaluationChoice(replace(loaded.evaluation, strategy="literal"), {}, (), kind)

    def train(self, number, kind, chosen_for="A100, 80 GiB"):
        """Train a minimum on a machine of a kind; the strategy in its record."""
        self._patch.setattr(device_strategies, "device_type", lambda device: kind)
        context = WorkerContext(
            str(self.made.folder), 1, CHOSEN, ChosenFor(chosen_for, self.plan.path_settings)
        )
        executor = InProcess(context)
        executor.poll(0.0)
        executor.submit("local", [self.plan.minima[number]])
        (finished,) = executor.poll(0.0)
        assert isinstance(finished, PackFinished)
        (result,) = finished.results
        assert isinstance(result, Done), result
        self.made.store.commit([result.segment], term=1)
        records = {record.key: record for record in self.made.store.records(MinimumRecord)}
        return records[result.key]


@pytest.fixture
def machines(tmp_path, monkeypatch):
    return Machines(tmp_path, monkeypatch)


def test_strategies_are_compared_once_for_each_kind_of_device(machines):
    """A second machine of the other kind uses the choice of the first; each record names its strategy."""
    assert machines.train(0, "A100, 80 GiB").strategy == "linear"
    assert machines.compared == []
    assert machines.train(1, "T4, 16 GiB").strategy == "literal"
    assert machines.train(2, "T4, 16 GiB").strategy == "literal"
    assert machines.compared == ["T4, 16 GiB"]
    record = machines.train(3, "A100, 80 GiB")
    assert (record.strategy, record.device) == ("linear", "cpu")


def test_damaged_settings_of_a_device_are_chosen_again(machines):
    """They are no results: a worker compares the strategies itself, and no task fails."""
    machines.train(0, "T4, 16 GiB")
    objects = machines.made.store.objects
    (name,) = [i.name for i in objects.list("run") if "device-settings" in i.name]
    objects.put(name, objects.get(name)[:5])
    assert machines.train(1, "T4, 16 GiB").strategy == "literal"
    assert machines.compared == ["T4, 16 GiB"] * 2
    assert machines.made.store.verify() == []


def test_two_workers_that_compare_at_the_same_time_use_one_choice(tmp_path):
    """The choice that was published first counts for both."""
    store = made_run(tmp_path, 2).store
    assert store.publish_device_settings("k", {"strategy": "linear"}) == {"strategy": "linear"}
    assert store.publish_device_settings("k", {"strategy": "literal"}) == {"strategy": "linear"}
