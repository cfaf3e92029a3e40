"""The scheduler is a pure function, so every fault is a line of script."""

import random

import pytest

from orchestrator.scheduling.messages import (
    Added,
    Complete,
    Fail,
    GiveUp,
    Loss,
    OpenTask,
    PackFinished,
    Replace,
    Retire,
    Run,
    StopRequested,
    Tick,
    WorkerJoined,
    WorkerLost,
)
from orchestrator.scheduling.policy import Policy
from orchestrator.scheduling.scheduler import Scheduler
from orchestrator.scheduling.task_states import IllegalTransition
from workers.tasks.results import Done, Failed, FailureKind


def runs(commands):
    return [(c.worker, c.pack) for c in commands if isinstance(c, Run)]


def finish(scheduler, worker, *results, now=0.0, seconds=10.0):
    return scheduler.handle(PackFinished(worker, results, seconds), now)


@pytest.fixture
def one_worker():
    scheduler = Scheduler()
    scheduler.handle(WorkerJoined("w"), 0.0)
    return scheduler


def test_a_task_waits_for_its_dependencies(one_worker):
    """A path starts only when both its minima are complete."""
    commands = one_worker.handle(
        Added([OpenTask("a"), OpenTask("b"), OpenTask("ab", ("a", "b"))]), 0.0
    )
    assert runs(commands) == [("w", ("a",))]
    assert runs(finish(one_worker, "w", Done("a"))) == [("w", ("b",))]
    assert runs(finish(one_worker, "w", Done("b"))) == [("w", ("ab",))]
    assert Complete("ab") in finish(one_worker, "w", Done("ab"))
    assert one_worker.open_tasks == 0 and one_worker.done == 3


def test_what_depends_on_a_failure_fails_without_running(one_worker):
    """A diverged minimum takes its paths along, and only they are not written down for `retry`."""
    one_worker.handle(Added([OpenTask("a"), OpenTask("ab", ("a",)), OpenTask("c")]), 0.0)
    commands = finish(one_worker, "w", Failed("a", FailureKind.DIVERGED, "loss is nan"))
    fails = [c for c in commands if isinstance(c, Fail)]
    assert [(f.failure.key, f.failure.kind, f.lasting) for f in fails] == [
        ("a", FailureKind.DIVERGED, True),
        ("ab", FailureKind.DEPENDS_ON_FAILED, False),
    ]
    assert runs(commands) == [("w", ("c",))]
    late = one_worker.handle(Added([OpenTask("ad", ("a",))]), 0.0)
    assert [c.failure.key for c in late if isinstance(c, Fail)] == ["ad"]


def test_a_lost_worker_gives_its_pack_back_first(one_worker):
    """Work of a crashed worker goes to the next worker, before what has not been started."""
    one_worker.handle(Added([OpenTask("a"), OpenTask("b")]), 0.0)
    one_worker.handle(WorkerLost("w", Loss.CRASHED, "killed"), 1.0)
    assert runs(one_worker.handle(WorkerJoined("v"), 2.0)) == [("v", ("a",))]


def test_what_a_lost_worker_published_counts(one_worker):
    """A record that reached the store before its worker died is not computed again."""
    one_worker.handle(Added([OpenTask("a"), OpenTask("b")]), 0.0)
    commands = one_worker.handle(WorkerLost("w", Loss.CRASHED, "killed", frozenset({"a"})), 1.0)
    assert commands == [Complete("a")]
    assert runs(one_worker.handle(WorkerJoined("v"), 2.0)) == [("v", ("b",))]


def test_a_task_that_kills_alone_is_given_up_with_its_cause():
    """After `max_attempts` workers lost to it alone, a task fails and the others go on."""
    scheduler = Scheduler(Policy(max_attempts=2))
    scheduler.handle(Added([OpenTask("bad"), OpenTask("good")]), 0.0)
    for life in range(2):
        commands = scheduler.handle(WorkerJoined(f"w{life}"), 0.0)
        assert runs(commands) == [(f"w{life}", ("bad",))]
        commands = scheduler.handle(WorkerLost(f"w{life}", Loss.CRASHED, "segmentation fault"), 0.0)
    (fail,) = [c for c in commands if isinstance(c, Fail)]
    assert fail.failure.kind is FailureKind.KILLS_ITS_WORKER
    assert "segmentation fault" in fail.failure.reason
    assert runs(scheduler.handle(WorkerJoined("w9"), 0.0)) == [("w9", ("good",))]


def test_preemption_is_charged_to_no_task():
    """A task may lose any number of workers to nodes that leave."""
    scheduler = Scheduler(Policy(max_attempts=1))
    scheduler.handle(Added([OpenTask("a")]), 0.0)
    for life in range(10):
        assert runs(scheduler.handle(WorkerJoined(f"w{life}"), 0.0))
        assert not scheduler.handle(WorkerLost(f"w{life}", Loss.PREEMPTED, "node left"), 0.0)


@pytest.mark.parametrize(
    "kind",
    [FailureKind.BUG, FailureKind.DIVERGED, FailureKind.BAD_INPUT, FailureKind.OUT_OF_MEMORY],
)
def test_what_would_fail_again_is_not_tried_again(one_worker, kind):
    """Its cause is written down for `retry`, the next task starts, and the worker is free for it."""
    one_worker.handle(Added([OpenTask("a"), OpenTask("b")]), 0.0)
    commands = finish(one_worker, "w", Failed("a", kind, "why", "the whole story"))
    (fail,) = [c for c in commands if isinstance(c, Fail)]
    assert fail.lasting
    assert fail.failure == Failed("a", kind, "why", "the whole story")
    assert runs(commands) == [("w", ("b",))]
    finish(one_worker, "w", Done("b"))
    assert not runs(one_worker.handle(Tick(), 1e6))
    assert one_worker.open_tasks == 0


def test_a_damaged_object_is_no_lasting_failure(one_worker):
    """The next `run` finds the damage and makes the object again: nothing is left for `retry`."""
    one_worker.handle(Added([OpenTask("a")]), 0.0)
    commands = finish(one_worker, "w", Failed("a", FailureKind.DAMAGED, "a flipped bit"))
    assert [c.lasting for c in commands if isinstance(c, Fail)] == [False]


def test_a_task_that_hangs_alone_is_given_up_with_its_cause():
    """A worker without progress counts as killed by its task."""
    scheduler = Scheduler(Policy(max_attempts=2))
    scheduler.handle(Added([OpenTask("endless"), OpenTask("good")]), 0.0)
    for life in range(2):
        assert runs(scheduler.handle(WorkerJoined(f"w{life}"), 0.0)) == [(f"w{life}", ("endless",))]
        lost = WorkerLost(f"w{life}", Loss.STALLED, "no step forward for 700 s")
        commands = scheduler.handle(lost, 0.0)
    (fail,) = [c for c in commands if isinstance(c, Fail)]
    assert fail.failure.kind is FailureKind.KILLS_ITS_WORKER
    assert "no step forward for 700 s" in fail.failure.reason


def test_a_full_disk_is_waited_for_like_a_store_that_is_away(one_worker):
    """Nothing is charged to the task, which runs when there is room."""
    one_worker.handle(Added([OpenTask("a")]), 0.0)
    full = Failed("a", FailureKind.DISK_FULL, "no space left")
    assert not runs(finish(one_worker, "w", full, now=0.0))
    assert runs(one_worker.handle(Tick(), 1.0)) == [("w", ("a",))]
    assert not one_worker.failed


def test_results_that_come_after_the_loss_change_nothing():
    """A lost worker finishes its pack after all: by then its tasks have been given to another worker."""
    scheduler = Scheduler()
    scheduler.handle(WorkerJoined("w"), 0.0)
    scheduler.handle(Added([OpenTask("a")]), 0.0)
    scheduler.handle(WorkerLost("w", Loss.STALLED, "no answer"), 1.0)
    assert finish(scheduler, "w", Done("a")) == []
    assert runs(scheduler.handle(WorkerJoined("v"), 2.0)) == [("v", ("a",))]
    assert finish(scheduler, "v", Done("a")) == [Complete("a")]
    assert scheduler.done == 1


def short_tasks(count, policy=None):
    """A machine that has learnt that its tasks are short, so that it packs them."""
    scheduler = Scheduler(policy or Policy(pack_seconds=1.0))
    scheduler.handle(WorkerJoined("w"), 0.0)
    scheduler.handle(Added([OpenTask("first")]), 0.0)
    finish(scheduler, "w", Done("first"), seconds=0.001)
    return scheduler, scheduler.handle(Added([OpenTask(f"t{i}") for i in range(count)]), 0.0)


def test_short_tasks_travel_in_packs():
    """Tasks of a millisecond are sent by the hundred, two packs to a worker."""
    scheduler, commands = short_tasks(2000)
    (_, first), (_, second) = runs(commands)
    assert len(first) == 512 and len(second) > 100
    assert scheduler.running == len(first) + len(second)


@pytest.mark.parametrize(("workers", "sizes"), [(1, [8]), (2, [8, 8]), (4, [5, 5, 5, 5])])
def test_paths_that_are_optimised_together_are_sent_together(workers, sizes):
    """Every idle worker gets as many paths as it optimises together, or its share of those that are ready."""
    scheduler = Scheduler(Policy(paths_at_once=8))
    for i in range(workers):
        scheduler.handle(WorkerJoined(f"w{i}"), 0.0)
    tasks = [OpenTask(f"t{i}", kind="OptimizePath") for i in range(20)]
    commands = runs(scheduler.handle(Added(tasks), 0.0))
    assert [len(pack) for _, pack in commands] == sizes


def test_only_paths_are_optimised_together():
    """Other tasks go one by one until it is known how long they take."""
    scheduler = Scheduler(Policy(paths_at_once=8))
    scheduler.handle(WorkerJoined("w"), 0.0)
    ((_, pack),) = runs(
        scheduler.handle(Added([OpenTask(t, kind="TrainMinimum") for t in "abc"]), 0.0)
    )
    assert pack == ("a",)


def test_paths_that_did_not_fit_together_run_alone():
    """A path that did not fit into memory with others is tried once more by itself."""
    scheduler = Scheduler(Policy(paths_at_once=8))
    scheduler.handle(WorkerJoined("w"), 0.0)
    scheduler.handle(Added([OpenTask(t, kind="OptimizePath") for t in "abc"]), 0.0)
    results = [Failed("a", FailureKind.OUT_OF_MEMORY, "full"), Done("b"), Done("c")]
    assert [pack for _, pack in runs(finish(scheduler, "w", *results))] == [("a",)]


def test_a_pack_that_kills_twice_is_split_and_the_killer_found():
    """Of 200 tasks one kills every worker: 199 complete, one is given up."""
    scheduler, _ = short_tasks(200)
    worker, lives, last_fatal = "w", 0, ()
    while scheduler.open_tasks:
        pack, *_ = scheduler.packs_on(worker)
        if "t77" in pack:
            published = frozenset(pack[: pack.index("t77")])
            scheduler.handle(WorkerLost(worker, Loss.CRASHED, "killed", published), 0.0)
            last_fatal, lives = pack, lives + 1
            worker = f"w{lives}"
            scheduler.handle(WorkerJoined(worker), 0.0)
        else:
            finish(scheduler, worker, *map(Done, pack), seconds=0.2)
    assert list(scheduler.failed) == ["t77"]
    assert scheduler.done == 200
    assert last_fatal == ("t77",)


def test_the_pack_behind_a_killer_is_not_charged():
    """Only the running pack is charged: a queued pack may be lost any number of times."""
    scheduler, commands = short_tasks(2000, Policy(pack_seconds=1.0, max_attempts=1))
    (_, head), (_, behind) = runs(commands)
    for life in range(5):
        done = frozenset(head)
        scheduler.handle(WorkerLost(f"w{life}" if life else "w", Loss.CRASHED, "killed", done), 0.0)
        (_, head), (_, behind) = runs(scheduler.handle(WorkerJoined(f"w{life + 1}"), 0.0))
        assert len(head) > 1 and len(behind) > 1
    assert not scheduler.failed


def test_a_preempted_pack_stays_together():
    """Its node left: no task is suspected, so none has to run alone."""
    scheduler, commands = short_tasks(200)
    (_, pack), *_ = runs(commands)
    for life in range(5):
        scheduler.handle(WorkerLost(f"w{life}" if life else "w", Loss.PREEMPTED, "node left"), 0.0)
        (_, again), *_ = runs(scheduler.handle(WorkerJoined(f"w{life + 1}"), 0.0))
        assert again == pack


def test_out_of_memory_in_a_pack_is_tried_alone():
    """A task that did not fit beside others is run by itself, and fails only then."""
    scheduler, _ = short_tasks(20)
    pack, *_ = scheduler.packs_on("w")
    assert len(pack) > 1
    full = Failed(pack[0], FailureKind.OUT_OF_MEMORY, "8 GiB asked")
    finish(scheduler, "w", full, *map(Done, pack[1:]))
    assert not scheduler.failed
    while (pack := scheduler.packs_on("w")[0]) != (full.key,):
        finish(scheduler, "w", *map(Done, pack))
    finish(scheduler, "w", full)
    assert scheduler.failed == {full.key: FailureKind.OUT_OF_MEMORY}


def test_a_store_that_is_away_is_waited_for(one_worker):
    """The pause doubles, nothing is charged to the task, and it runs when the store is back."""
    one_worker.handle(Added([OpenTask("a")]), 0.0)
    away = Failed("a", FailureKind.STORE, "503")
    assert not runs(finish(one_worker, "w", away, now=0.0))
    assert not runs(one_worker.handle(Tick(), 0.5))
    assert runs(one_worker.handle(Tick(), 1.0))
    finish(one_worker, "w", away, now=1.0)
    assert not runs(one_worker.handle(Tick(), 2.5))
    assert runs(one_worker.handle(Tick(), 3.0))
    assert Complete("a") in finish(one_worker, "w", Done("a"), now=3.0)


def test_patience_with_the_store_ends():
    """A store that stays unreachable ends the run, which can be continued; no task is marked failed."""
    scheduler = Scheduler(Policy(patience=5.0, max_backoff=1.0))
    scheduler.handle(WorkerJoined("w"), 0.0)
    scheduler.handle(Added([OpenTask("a")]), 0.0)
    seen, now = [], 0.0
    for now in range(8):
        seen += finish(scheduler, "w", Failed("a", FailureKind.STORE, "503"), now=float(now))
        scheduler.handle(Tick(), now + 0.9999)
        scheduler.handle(Tick(), now + 1.0)
    assert [c for c in seen if isinstance(c, GiveUp)]
    assert not scheduler.failed


def retired(commands):
    return [command.worker for command in commands if isinstance(command, Retire)]


def test_idle_workers_are_retired_when_no_task_is_left_for_them():
    """Sixty-four workers and one last path: 63 machines are given back a minute later, one works on."""
    scheduler = Scheduler(Policy(idle_seconds=60.0))
    for i in range(64):
        scheduler.handle(WorkerJoined(f"w{i}"), 0.0)
    scheduler.handle(Added([OpenTask("last")]), 0.0)
    scheduler.handle(Tick(), 0.0)
    assert not retired(scheduler.handle(Tick(), 60.0))
    gone = retired(scheduler.handle(Tick(), 61.0))
    assert len(gone) == 63 and "w0" not in gone and scheduler.workers == 1
    assert Complete("last") in finish(scheduler, "w0", Done("last"), now=500.0)
    assert not retired(scheduler.handle(Tick(), 9e9)), "one stays for the tasks of a next round"


def test_workers_for_which_tasks_wait_are_not_retired():
    """Two paths wait for a minimum that takes long: two idle workers are kept for them, and no third."""
    scheduler = Scheduler(Policy(idle_seconds=60.0))
    for i in range(4):
        scheduler.handle(WorkerJoined(f"w{i}"), 0.0)
    scheduler.handle(Added([OpenTask("m"), OpenTask("a", ("m",)), OpenTask("b", ("m",))]), 0.0)
    scheduler.handle(Tick(), 0.0)
    assert len(retired(scheduler.handle(Tick(), 100.0))) == 1
    assert len(runs(finish(scheduler, "w0", Done("m"), now=200.0))) == 2


def test_stopping_hands_out_nothing_more(one_worker):
    """After a stop the running task may finish, and nothing else starts."""
    one_worker.handle(Added([OpenTask("a"), OpenTask("b")]), 0.0)
    assert one_worker.handle(StopRequested(), 0.0) == []
    assert finish(one_worker, "w", Done("a")) == [Complete("a")]
    assert one_worker.running == 0 and one_worker.open_tasks == 1


def test_the_message_about_an_impossible_event_holds_the_history(one_worker):
    """A result for a task that does not run is a bug, and its message says how it came about."""
    one_worker.handle(Added([OpenTask("a"), OpenTask("b")]), 0.0)
    with pytest.raises(IllegalTransition, match="b is ready"):
        finish(one_worker, "w", Failed("b", FailureKind.BUG, "?"), Done("a"))


@pytest.mark.parametrize("copy_seconds", [120.0, 0.0])
@pytest.mark.parametrize("seed", range(30))
def test_no_schedule_of_faults_loses_or_repeats_a_task(seed, copy_seconds):
    """Whatever dies and in whatever order, each task completes exactly once, also with copies of tasks."""
    draw = random.Random(seed)
    policy = Policy(
        max_attempts=10**6,
        shared_kills=3,
        broken_by=10**6,
        broken_starts=10**6,
        copy_seconds=copy_seconds,
        copy_factor=0.1,
        copy_after=1,
    )
    scheduler = Scheduler(policy)
    names = [f"m{i}" for i in range(6)]
    pairs = [(f"{a}{b}", (a, b)) for i, a in enumerate(names) for b in names[:i]]
    completed: list[str] = []
    queues: dict[str, list[tuple[str, ...]]] = {}
    now, born = 0.0, 0

    def carry_out(commands):
        for command in commands:
            if isinstance(command, Run):
                queues[command.worker].append(command.pack)
            elif isinstance(command, Complete):
                completed.append(command.key)
            elif isinstance(command, Replace):
                del queues[command.worker]
            else:
                raise AssertionError(command)
        scheduler.validate_state()

    carry_out(
        scheduler.handle(Added([*map(OpenTask, names), *(OpenTask(k, d) for k, d in pairs)]), 0.0)
    )
    while scheduler.open_tasks:
        now += draw.random()
        event = draw.random()
        if not queues or event < 0.15:
            born += 1
            queues[f"w{born}"] = []
            carry_out(scheduler.handle(WorkerJoined(f"w{born}"), now))
            continue
        worker = draw.choice(sorted(queues))
        if event < 0.3:
            ran = [key for pack in queues.pop(worker)[:1] for key in pack]
            done = frozenset(key for key in ran if draw.random() < 0.5)
            how = draw.choice(list(Loss))
            carry_out(scheduler.handle(WorkerLost(worker, how, "script", done), now))
        elif queues[worker]:
            pack = queues[worker].pop(0)
            results = [
                Failed(key, draw.choice([FailureKind.STORE, FailureKind.WORKER]), "503")
                if draw.random() < 0.1
                else Done(key)
                for key in pack
            ]
            carry_out(scheduler.handle(PackFinished(worker, results, draw.random()), now))
        else:
            carry_out(scheduler.handle(Tick(), now))
    assert sorted(completed) == sorted([*names, *(key for key, _ in pairs)])
