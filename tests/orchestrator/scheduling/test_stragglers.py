"""Second copies of slow tasks, as a pure policy and in simulated time."""

import heapq
from itertools import count

import pytest

from orchestrator.scheduling.messages import (
    Added,
    Complete,
    Fail,
    Loss,
    OpenTask,
    PackFinished,
    Replace,
    Run,
    Tick,
    WorkerJoined,
    WorkerLost,
)
from orchestrator.scheduling.policy import Policy
from orchestrator.scheduling.scheduler import Scheduler
from orchestrator.scheduling.stragglers import Stragglers
from workers.tasks.results import Done, Failed, FailureKind

NO_COPIES = Policy(copy_seconds=float("inf"))


@pytest.mark.parametrize(
    ("known", "seconds", "verdict"),
    [
        ([60.0] * 9, 1e6, False),
        ([60.0] * 10, 180.0, False),
        ([60.0] * 10, 181.0, True),
        ([1.0] * 10, 119.0, False),
        ([1.0] * 10, 120.0, True),
        ([100.0] * 6 + [300.0] * 4, 299.0, False),
        ([100.0] * 6 + [300.0] * 4, 301.0, True),
    ],
)
def test_a_straggler_is_far_slower_than_enough_of_its_peers(known, seconds, verdict):
    """Three times the median of at least ten tasks of its kind, and never within two minutes."""
    stragglers = Stragglers(Policy())
    for each in known:
        stragglers.learn("path", each)
    assert stragglers.is_one("path", seconds) is verdict
    assert not stragglers.is_one("minimum", seconds)


def held_up(*more):
    """Two workers: ten tasks are complete, `slow` has run for 500 s on `a`, and `b` has a copy of it."""
    scheduler = Scheduler()
    scheduler.handle(WorkerJoined("a"), 0.0)
    scheduler.handle(Added([OpenTask("slow")]), 0.0)
    scheduler.handle(WorkerJoined("b"), 0.0)
    for number in range(10):
        scheduler.handle(Added([OpenTask(f"t{number}")]), 0.0)
        scheduler.handle(PackFinished("b", [Done(f"t{number}")], 50.0), 0.0)
    assert scheduler.handle(Tick(), 100.0) == []
    assert scheduler.handle(Tick(), 500.0) == [Run("b", ("slow",))]
    scheduler.validate_state()
    assert scheduler.handle(Tick(), 900.0) == [], "one copy is enough"
    assert scheduler.running == 1
    return scheduler


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("b", "a")])
def test_the_first_result_counts_and_the_other_worker_is_stopped(first, second):
    """A task completes once; what the slower worker still sends is ignored."""
    scheduler = held_up()
    commands = scheduler.handle(PackFinished(first, [Done("slow")], 500.0), 1000.0)
    assert commands[0] == Complete("slow")
    assert [(c.worker, c.drain) for c in commands[1:] if isinstance(c, Replace)] == [
        (second, False)
    ]
    assert scheduler.handle(PackFinished(second, [Done("slow")], 500.0), 1000.0) == []
    scheduler.validate_state()
    assert (scheduler.done, scheduler.open_tasks) == (11, 0)


@pytest.mark.parametrize("how", list(Loss))
@pytest.mark.parametrize(("lost", "other"), [("a", "b"), ("b", "a")])
def test_a_copy_that_is_lost_is_not_started_again(lost, other, how):
    """The other copy continues; the task is ready again only when both are lost."""
    scheduler = held_up()
    assert scheduler.handle(WorkerLost(lost, how, "gone"), 1000.0) == []
    scheduler.validate_state()
    assert scheduler.ready == 0 and scheduler.running == 1
    scheduler.handle(WorkerLost(other, how, "gone"), 1000.0)
    scheduler.validate_state()
    assert scheduler.ready == 1


@pytest.mark.parametrize("kind", list(FailureKind))
def test_a_failure_of_one_copy_fails_the_task_only_if_it_would_fail_anywhere(kind):
    """A divergence fails the task and stops the other copy; a full GPU or a lost store does not."""
    scheduler = held_up()
    commands = scheduler.handle(PackFinished("b", [Failed("slow", kind, "why")], 1.0), 1000.0)
    scheduler.validate_state()
    anywhere = kind not in (
        FailureKind.WORKER,
        FailureKind.STORE,
        FailureKind.DISK_FULL,
        FailureKind.OUT_OF_MEMORY,
    )
    assert any(isinstance(command, Fail) for command in commands) is anywhere
    stopped = [command.worker for command in commands if isinstance(command, Replace)]
    assert stopped == (["a"] if anywhere else ["b"] if kind is FailureKind.WORKER else [])
    assert scheduler.open_tasks == (0 if anywhere else 1)
    if not anywhere:
        result = PackFinished("a", [Done("slow")], 9.0)
        assert Complete("slow") in scheduler.handle(result, 1001.0)


def test_no_copy_while_other_tasks_wait():
    """Tasks that have not begun come before second copies."""
    scheduler = Scheduler(Policy(copy_after=0, copy_seconds=0.0, copy_factor=0.0))
    scheduler.handle(WorkerJoined("a"), 0.0)
    scheduler.handle(Added([OpenTask("slow"), OpenTask("next")]), 0.0)
    commands = scheduler.handle(WorkerJoined("b"), 1e6)
    assert commands == [Run("b", ("next",))]


def makespan(policy, slow=1, workers=16, tasks=200, seconds=60.0, slowness=40.0):
    """Simulated seconds of a run in which `slow` of the workers are `slowness` times slower."""
    scheduler, number, now = Scheduler(policy), count(), 0.0
    queue, lives, completed = [], {f"w{i}": 0 for i in range(workers)}, []

    def act(commands):
        for command in commands:
            match command:
                case Run(worker, (key,)):
                    takes = seconds * (slowness if int(worker[1:]) < slow else 1.0)
                    life = lives[worker]
                    heapq.heappush(queue, (now + takes, next(number), worker, life, key, takes))
                case Complete(key):
                    completed.append(key)
                case Replace(worker):
                    lives[worker] += 1
                    heapq.heappush(
                        queue, (now + 10.0, next(number), worker, lives[worker], "", 0.0)
                    )
                case _:
                    raise AssertionError(command)

    for worker in lives:
        act(scheduler.handle(WorkerJoined(worker), now))
    act(scheduler.handle(Added([OpenTask(f"t{i}", kind="path") for i in range(tasks)]), now))
    heapq.heappush(queue, (now, next(number), "tick", -1, "", 0.0))
    while scheduler.open_tasks:
        now, _, worker, life, key, takes = heapq.heappop(queue)
        if worker == "tick":
            act(scheduler.handle(Tick(), now))
            heapq.heappush(queue, (now + 1.0, next(number), "tick", -1, "", 0.0))
        elif lives[worker] == life:
            event = PackFinished(worker, [Done(key)], takes) if key else WorkerJoined(worker)
            act(scheduler.handle(event, now))
    assert len(completed) == len(set(completed)) == tasks
    return now


def test_a_run_does_not_wait_for_its_slowest_node():
    """One of 16 workers is 40 times slower: with copies the run ends about as if it were not there."""
    even = makespan(NO_COPIES, slow=0)
    alone, copied = makespan(NO_COPIES), makespan(Policy())
    assert alone > 2.5 * even
    assert copied < 1.35 * even
