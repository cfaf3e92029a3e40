"""Who is blamed: broken workers, tasks that break them, causes that all tasks share; in simulated time."""

import heapq
import random

import pytest

from orchestrator.scheduling.messages import (
    Added,
    Complete,
    Fail,
    GiveUp,
    OpenTask,
    PackFinished,
    Replace,
    Run,
    StopRequested,
    Tick,
    WorkerJoined,
)
from orchestrator.scheduling.policy import Policy, StoreOutage
from orchestrator.scheduling.scheduler import Scheduler
from workers.tasks.results import Done, Failed, FailureKind

RESTART_SECONDS = 10.0
CUDA = "CUDA error: an illegal memory access was encountered"


class Cluster:
    """Workers in simulated time.

    Args:
        workers: their names.
        result: of a task on a worker, as a result and the seconds that it takes.
        policy: of the scheduler.
    """

    def __init__(self, workers, result, policy=None):
        self.scheduler = Scheduler(policy)
        self._result, self._queue, self._number = result, [], 0
        self.now, self.completed, self.failed = 0.0, [], {}
        self.replaced, self.drained, self.gave_up = [], [], []
        self._busy, self._packs = {}, {}
        for worker in workers:
            self._at(0.0, WorkerJoined(worker))

    def run(self, tasks):
        self._handle(Added(tasks))
        while self.scheduler.open_tasks and not self.gave_up:
            assert self._queue, "nothing will ever happen again"
            self.now, _, event = heapq.heappop(self._queue)
            if isinstance(event, tuple):
                worker, life, seconds, results = event
                if self._busy.get(worker) == life:
                    self._packs[worker].pop(0)
                    queued = bool(self._packs[worker])
                    self._handle(PackFinished(worker, results, seconds))
                    if queued and self._busy.get(worker) == life:
                        self._work(worker)
                continue
            if isinstance(event, WorkerJoined):
                self._busy[event.worker], self._packs[event.worker] = self._number, []
            self._handle(event)
        return self

    def _at(self, time, event):
        self._number += 1
        heapq.heappush(self._queue, (time, self._number, event))

    def _handle(self, event):
        for command in self.scheduler.handle(event, self.now):
            match command:
                case Run(worker, pack):
                    self._packs[worker].append(pack)
                    if len(self._packs[worker]) == 1:
                        self._work(worker)
                case Complete(key):
                    self.completed.append(key)
                case Fail(failure):
                    self.failed[failure.key] = failure
                case Replace(worker, drain=drain):
                    self._busy.pop(worker)
                    (self.drained if drain else self.replaced).append(worker)
                    if not drain:
                        self._at(self.now + RESTART_SECONDS, WorkerJoined(worker))
                case GiveUp():
                    self.gave_up.append(command)
        self.scheduler.validate_state()

    def _work(self, worker):
        if not self._packs[worker]:
            return
        pack = self._packs[worker][0]
        told = [self._result(key, worker) for key in pack]
        seconds = sum(each for _, each in told)
        event = (worker, self._busy[worker], seconds, [result for result, _ in told])
        self._at(self.now + seconds, event)


def tasks(count):
    return [OpenTask(f"t{i}", kind="OptimizePath") for i in range(count)]


def broken(key):
    return Failed(key, FailureKind.WORKER, CUDA), 0.05


def test_a_broken_worker_swallows_no_tasks():
    """Seven good workers take 30 s a task, one fails each in 50 ms: it is drained, all 1,000 complete."""

    def result(key, worker):
        return broken(key) if worker == "w3" else (Done(key), 30.0)

    ran = Cluster([f"w{i}" for i in range(8)], result).run(tasks(1000))
    assert len(ran.completed) == 1000 and not ran.failed and not ran.gave_up
    assert ran.drained == ["w3"] and len(ran.replaced) == 2


def test_a_worker_that_breaks_in_the_middle_is_started_anew():
    """Its context is broken until its process is replaced; no task is charged for it."""
    state = {"served": 0, "joined": 0}

    def result(key, worker):
        state["served"] += worker == "w0"
        if worker == "w0" and 10 < state["served"] <= 11:
            return broken(key)
        return Done(key), 30.0

    ran = Cluster(["w0", "w1"], result).run(tasks(100))
    assert len(ran.completed) == 100 and not ran.failed
    assert ran.replaced == ["w0"] and not ran.drained


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_a_task_that_breaks_every_worker_is_given_up(workers):
    """A device-side assert of one task: it fails with the cause, and the others complete."""

    def result(key, worker):
        return broken(key) if key == "t7" else (Done(key), 30.0)

    ran = Cluster([f"w{i}" for i in range(workers)], result).run(tasks(50))
    assert list(ran.failed) == ["t7"] and CUDA in ran.failed["t7"].reason
    assert ran.failed["t7"].kind is FailureKind.KILLS_ITS_WORKER
    assert len(ran.completed) == 49 and not ran.gave_up and not ran.drained


@pytest.mark.parametrize("seed", range(5))
def test_what_a_poisoned_pack_takes_along_is_not_charged(seed):
    """After the first failure the context is broken for the rest of the pack: only the first is suspect."""
    draw = random.Random(seed)
    poison = f"t{draw.randrange(200)}"
    broken_now = set()

    def result(key, worker):
        if key == poison:
            broken_now.add(worker)
        if worker in broken_now:
            return broken(key)
        return Done(key), 0.1

    cluster = Cluster(["a", "b"], result)
    original = cluster._handle

    def handle(event):
        if isinstance(event, WorkerJoined):
            broken_now.discard(event.worker)
        original(event)

    cluster._handle = handle
    ran = cluster.run(tasks(200))
    assert list(ran.failed) == [poison] and len(ran.completed) == 199


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("count", [1, 100])
def test_workers_that_all_are_broken_end_the_run_with_the_cause(workers, count):
    """No task is marked as failed: once the cause is removed, the same command continues the run."""
    ran = Cluster([f"w{i}" for i in range(workers)], lambda key, worker: broken(key)).run(
        tasks(count)
    )
    (end,) = ran.gave_up
    assert CUDA in end.reason and not end.curable
    assert not ran.failed and ran.scheduler.open_tasks == count


def test_a_bug_that_all_tasks_have_ends_the_run_with_the_cause():
    """Of 1,000 tasks, not more than ten are marked as failed; what differs between messages is ignored."""

    def result(key, worker):
        return Failed(key, FailureKind.BUG, f"TypeError: '{key}' at 0x{hash(key) % 4096:x}"), 0.05

    ran = Cluster(["a", "b"], result).run(tasks(1000))
    (end,) = ran.gave_up
    assert "TypeError" in end.reason and not end.curable
    assert len(ran.failed) <= 10


def test_bugs_among_successes_end_nothing():
    """Half of the tasks have the same bug and the others complete: the run comes to its end."""

    def result(key, worker):
        if int(key[1:]) % 2:
            return Failed(key, FailureKind.BUG, "TypeError: odd"), 1.0
        return Done(key), 1.0

    ran = Cluster(["a", "b"], result).run(tasks(100))
    assert len(ran.failed) == len(ran.completed) == 50 and not ran.gave_up


def test_two_short_outages_are_not_one_long_one():
    """Unreachable at 10 s and again at 700 s, with a long task in between: that is no outage of 690 s."""
    outage = StoreOutage(Policy())
    assert outage.failed(10.0) == 1.0
    assert outage.failed(700.0) == 1.0
    assert not outage.is_hopeless(700.0)


def test_one_long_outage_is_given_up():
    """Reports that come with every try add up, and the run gives up after the policy's patience."""
    outage, now = StoreOutage(Policy()), 0.0
    while not outage.is_hopeless(now):
        now += outage.failed(now) + 5.0
    assert 600.0 < now < 700.0


def test_a_stop_is_not_delayed_by_a_broken_worker():
    """After a stop request a worker that breaks gives its tasks back, and nothing is handed out."""
    scheduler = Scheduler()
    scheduler.handle(WorkerJoined("w"), 0.0)
    scheduler.handle(Added(tasks(2)), 0.0)
    scheduler.handle(StopRequested(), 1.0)
    commands = scheduler.handle(PackFinished("w", [broken("t0")[0]], 0.1), 2.0)
    assert [type(command) for command in commands] == [Replace]
    assert scheduler.running == 0
    assert scheduler.handle(Tick(), 3.0) == []
