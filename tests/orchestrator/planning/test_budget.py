"""`pairs.max_hours`: a budget of time, with a clock that a scripted worker turns."""

import pytest

from orchestrator.analysis.reduction import reduce_run
from orchestrator.planning.plan import Plan
from orchestrator.scheduling.driver import drive
from orchestrator.scheduling.lease import Lease
from orchestrator.scheduling.messages import PackFinished, WorkerJoined
from orchestrator.scheduling.outcome import Ending
from tests.benchmarks.many_pairs import with_minima
from tests.helpers.command import toscore
from tests.helpers.made_run import made_run
from tests.helpers.records import pair_record
from workers.tasks.results import Done

MINIMA, PAIRS = 8, 28


class SlowWorker:
    """Each path takes ten minutes of a simulated clock."""

    def __init__(self, store, epoch):
        self.now, self._store, self._epoch = 0.0, store, epoch
        self._packs, self._joined = [], False

    def submit(self, worker, pack):
        self._packs.append(pack)

    def poll(self, timeout):
        if not self._joined:
            self._joined = True
            return [WorkerJoined("w")]
        pack = self._packs.pop(0)
        self.now += 600.0 * len(pack)
        # Far above all minima, so that a lazy rule leaves nothing out.
        records = [pair_record(task.key, pair=(task.i, task.j), number=20) for task in pack]
        segment = self._store.publish_segment(records, term=self._epoch, worker="w")
        done = [Done(r.key, r.height, segment=segment) for r in records]
        return [PackFinished("w", done, 600.0 * len(pack))]

    def want(self, tasks):
        pass

    def progress(self):
        return {}

    def close(self):
        pass


def driven(plan: Plan, store):
    """The ending, and how many paths this driver has run."""
    before = len(store.completed("pairs"))
    lease = Lease.acquire(store.objects)
    try:
        store.take_over(lease.term)
        with_minima(plan, store, lease.term)
        worker = SlowWorker(store, lease.term)
        outcome = drive(
            plan, store, lambda: worker, lease, notify=lambda event: None, clock=lambda: worker.now
        )
    finally:
        lease.close()
    return outcome.ending, len(store.completed("pairs")) - before


@pytest.mark.parametrize("rule", ["all", "lazy"])
def test_nothing_is_started_when_the_time_is_over(tmp_path, rule):
    """One hour holds seven paths of ten minutes: the seventh was started within it, and is finished."""
    made = made_run(tmp_path, MINIMA, pairs={"rule": rule, "max_hours": 1.0})
    assert driven(made.plan, made.store) == (Ending.COMPLETE, 7)
    landscape = reduce_run(made.plan, made.store)
    assert not landscape.complete
    assert landscape.counts.done == 7


def test_each_start_has_the_whole_budget(tmp_path):
    """Started again, the run continues, and in the end it is complete."""
    made = made_run(tmp_path, MINIMA, pairs={"rule": "all", "max_hours": 1.0})
    done = [driven(made.plan, made.store)[1] for _ in range(5)]
    assert done == [7, 7, 7, 7, 0]
    assert reduce_run(made.plan, made.store).complete


def test_a_lazy_run_out_of_time_says_what_is_open(tmp_path):
    """Beside the bars so far: how many paths could still lower them, and to where."""
    made = made_run(tmp_path, MINIMA, pairs={"rule": "lazy", "max_hours": 1.0})
    driven(made.plan, made.store)
    said = toscore("reduce", made.folder).out
    assert f"Open: {PAIRS - 7} of {PAIRS} pairs were not run" in " ".join(said.split())
    assert "could still lower bars" in " ".join(said.split())
