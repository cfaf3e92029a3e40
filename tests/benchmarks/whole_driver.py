"""The whole driver in simulated time: planner, scheduler, commit log and store, with fake workers.

    python -m tests.benchmarks.whole_driver --nodes 64 --minima 300

The loop of `drive` is the real one, and so are the plan, the keys, the records, the commit log and its
compaction. Simulated are the clock, the workers, and a store in memory whose answers take 20 ms and fail once
in a hundred. Nodes of eight GPUs train minima and optimise all pairs, 1 to 300 s each. A node is lost every
five minutes and back after two; every two hours a wave of spot nodes, half of all, is gone for ten minutes.
"""

import argparse
import heapq
import json
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any
from unittest import mock

import psutil

from orchestrator.scheduling import store_retry
from orchestrator.scheduling.driver import drive
from orchestrator.scheduling.executor import ExecutorEvent
from orchestrator.scheduling.messages import Loss, PackFinished, WorkerJoined, WorkerLost
from orchestrator.scheduling.outcome import Ending
from orchestrator.telemetry import events
from tests.benchmarks.many_pairs import plan_of
from tests.helpers.memory_objects import MemoryObjects
from tests.helpers.records import minimum_record, pair_record
from workers.storage.objects import StoreUnreachable
from workers.storage.run_store import Store
from workers.tasks.path_tasks import OptimizePath
from workers.tasks.results import Done, Failed, FailureKind, TaskResult
from workers.tasks.task import Task

GPUS = 8
LATENCY, ERRORS, AT_ONCE = 0.02, 0.01, 16
"""Of the store: seconds of an answer, share of errors, and reads that the driver makes at the same time."""
CHECKPOINT_SECONDS = 60.0
LOSS_SECONDS, RETURN_SECONDS = 300.0, 120.0
RESTART_SECONDS = 10.0
WAVE_SECONDS, WAVE_RETURN_SECONDS = 7200.0, 600.0


class Clock:
    """Simulated seconds."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    monotonic = __call__

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Remote:
    """A store in memory, far away: each request takes time on a clock and may fail.

    Args:
        objects: the content, which others see as well.
        wait: takes the seconds of a request.
        draw: decides which requests fail.
    """

    def __init__(
        self, objects: MemoryObjects, wait: Callable[[float], None], draw: random.Random
    ) -> None:
        self._objects, self._wait, self._draw = objects, wait, draw
        self.requests = 0

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._objects, name)
        if not callable(operation):
            return operation

        def request(*arguments: Any) -> Any:
            self.requests += 1
            if threading.current_thread() is threading.main_thread():  # others run beside the loop
                self._wait(LATENCY / AT_ONCE if name == "get" else LATENCY)
            if self._draw.random() < ERRORS:
                raise StoreUnreachable("503")
            return operation(*arguments)

        return request


@dataclass
class Figures:
    """What the run was like."""

    busy: float = 0.0
    there: float = 0.0
    completed: int = 0
    twice: int = 0
    workers_lost: int = 0
    slowest_event: float = 0.0
    loop_seconds: float = 0.0


class Lease:
    """A lease that nobody else wants."""

    term = 1

    def check(self) -> None:
        """It is held."""

    confirm = check


class Cluster:
    """The executor: workers that finish, are lost and come back, in simulated time.

    Args:
        clock: is moved on by `poll`.
        objects: the content of the store.
        nodes: of eight workers.
        figures: receives what happens.
    """

    def __init__(self, clock: Clock, objects: MemoryObjects, nodes: int, figures: Figures) -> None:
        self._clock, self._nodes, self._figures = clock, nodes, figures
        self._draw = random.Random(1)
        self._store = Store(Remote(objects, lambda seconds: None, self._draw))  # type: ignore[arg-type]
        self._queue: list[tuple[float, int, Callable[[], list[ExecutorEvent]]]] = []
        self._number = count()
        self._lives: dict[str, float] = {}
        self._packs: dict[str, list[Sequence[Task]]] = {}
        self._began: dict[str, float] = {}
        self._left: dict[str, float] = {}
        self._gone: set[int] = set()
        self._cpu = time.thread_time()
        for node in range(nodes):
            self._after(1.0, lambda node=node: self._join(node))  # type: ignore[misc]
        self._after(LOSS_SECONDS, self._lose_one)
        self._after(WAVE_SECONDS, self._lose_half)

    def submit(self, worker: str, pack: Sequence[Task]) -> None:
        if worker not in self._packs:
            return  # it was lost; the driver hears of it next
        for task in pack:
            self._left.setdefault(task.key, self._draw.uniform(1.0, 300.0))
        self._packs[worker].append(pack)
        if len(self._packs[worker]) == 1:
            self._begin(worker)

    def poll(self, timeout: float) -> list[ExecutorEvent]:
        spent = time.thread_time() - self._cpu
        self._figures.slowest_event = max(self._figures.slowest_event, spent)
        self._figures.loop_seconds += spent
        until, happened = self._clock.now + timeout, list[ExecutorEvent]()
        while not happened and self._queue and self._queue[0][0] <= until:
            at, _, action = heapq.heappop(self._queue)
            self._clock.now = max(self._clock.now, at)
            happened += action()
        while self._queue and self._queue[0][0] <= self._clock.now:
            happened += heapq.heappop(self._queue)[2]()
        if not happened:
            self._clock.now = max(self._clock.now, until)
        self._cpu = time.thread_time()
        return happened

    def progress(self) -> Mapping[str, float]:
        return {}

    def replace(self, worker: str, *, start_again: bool) -> None:
        """The slower copy of a task is stopped, and its worker starts again."""
        self._figures.there += self._clock.now - self._lives.pop(worker)
        del self._packs[worker]
        self._after(RESTART_SECONDS, partial(self._restart, worker))

    def retire(self, worker: str) -> None:
        raise AssertionError(worker)

    def want(self, tasks: int) -> None:
        """It has the workers that it has."""

    def close(self) -> None:
        for joined in self._lives.values():
            self._figures.there += self._clock.now - joined

    def _after(self, seconds: float, action: Callable[[], list[ExecutorEvent]]) -> None:
        heapq.heappush(self._queue, (self._clock.now + seconds, next(self._number), action))

    def _join(self, node: int) -> list[ExecutorEvent]:
        self._gone.discard(node)
        return [event for gpu in range(GPUS) for event in self._restart(f"n{node}-{gpu}")]

    def _restart(self, worker: str) -> list[ExecutorEvent]:
        node = worker.partition("-")[0]
        if worker in self._lives or int(node[1:]) in self._gone:
            return []
        self._lives[worker], self._packs[worker] = self._clock.now, []
        return [WorkerJoined(worker, node)]

    def _begin(self, worker: str) -> None:
        life, pack = self._lives[worker], self._packs[worker][0]
        self._began[worker] = self._clock.now
        seconds = sum(self._left[task.key] for task in pack) + LATENCY

        def finish() -> list[ExecutorEvent]:
            if self._lives.get(worker) != life:
                return []
            results = self._results(worker, pack)
            self._figures.busy += seconds - LATENCY
            self._packs[worker].pop(0)
            if self._packs[worker]:
                self._begin(worker)
            return [PackFinished(worker, results, seconds)]

        self._after(seconds, finish)

    def _results(self, worker: str, pack: Sequence[Task]) -> list[TaskResult]:
        """Publish the records of a pack, as a worker does."""
        paths = [
            pair_record(task.key, pair=(task.i, task.j))
            for task in pack
            if isinstance(task, OptimizePath)
        ]
        records = paths or [
            minimum_record(task.key, object_=f"minima/{task.key}.0.x") for task in pack
        ]
        try:
            segment = self._store.publish_segment(records, term=1, worker=worker)
        except StoreUnreachable as error:
            for task in pack:
                self._left[task.key] = LATENCY
            return [Failed(task.key, FailureKind.STORE, str(error)) for task in pack]
        for task in pack:
            self._left.pop(task.key, None)
        return [Done(r.key, r.figure, r.object, segment) for r in records]

    def _lose_one(self) -> list[ExecutorEvent]:
        self._after(LOSS_SECONDS, self._lose_one)
        return self._lose(self._draw.randrange(self._nodes), RETURN_SECONDS)

    def _lose_half(self) -> list[ExecutorEvent]:
        self._after(WAVE_SECONDS, self._lose_half)
        gone = self._draw.sample(range(self._nodes), self._nodes // 2)
        return [event for node in gone for event in self._lose(node, WAVE_RETURN_SECONDS)]

    def _lose(self, node: int, back_after: float) -> list[ExecutorEvent]:
        names = [f"n{node}-{gpu}" for gpu in range(GPUS) if f"n{node}-{gpu}" in self._lives]
        for name in names:
            self._figures.there += self._clock.now - self._lives.pop(name)
            self._figures.workers_lost += 1
            if packs := self._packs.pop(name):
                self._keep(packs[0], self._clock.now - self._began[name])
        if names:
            self._gone.add(node)
            self._after(back_after, lambda: self._join(node))
        return [WorkerLost(name, Loss.PREEMPTED, "its node left") for name in names]

    def _keep(self, pack: Sequence[Task], seconds: float) -> None:
        """What the checkpoints of the running pack hold was not in vain."""
        kept = seconds // CHECKPOINT_SECONDS * CHECKPOINT_SECONDS
        self._figures.busy += kept
        for task in pack:
            if task.key in self._left:
                done = min(kept, self._left[task.key] - LATENCY)
                self._left[task.key] -= done
                kept -= done


def simulate(nodes: int, minima: int) -> dict[str, float]:
    """Figures of a run, in simulated seconds but for those of the loop, which are of a processor."""
    clock, objects, figures = Clock(), MemoryObjects(), Figures()
    draw, done = random.Random(0), set[str]()
    remote = Remote(objects, clock.sleep, draw)
    store = Store(remote)  # type: ignore[arg-type]
    plan = plan_of("memory/run", minima)

    def notify(event: object) -> None:
        if isinstance(event, events.TaskCompleted):
            figures.completed += 1
            figures.twice += event.key in done
            done.add(event.key)

    before = psutil.Process().memory_info().rss
    with mock.patch.object(store_retry, "time", clock):
        retry = store_retry.StoreRetry(store_retry.Policy(), lambda reason: None, lambda: False)
        retry(lambda: store.take_over(1))
        outcome = drive(
            plan,
            store,
            lambda: Cluster(clock, objects, nodes, figures),
            Lease(),  # type: ignore[arg-type]
            notify=notify,
            clock=clock,
        )
    assert outcome.ending is Ending.COMPLETE, outcome
    whole = Store(objects)  # type: ignore[arg-type]
    assert len(whole.completed("pairs")) == plan.pair_count
    return {
        "nodes": nodes,
        "pairs": plan.pair_count,
        "hours": clock.now / 3600,
        "busy_share": figures.busy / figures.there,
        "twice": figures.twice,
        "workers_lost": figures.workers_lost,
        "driver_requests": remote.requests,
        "slowest_event": figures.slowest_event,
        "loop_seconds": figures.loop_seconds,
        "store_bytes": sum(info.size for info in objects.list()),
        "memory_growth": psutil.Process().memory_info().rss - before,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, nargs="+", default=[64])
    parser.add_argument("--minima", type=int, default=300)
    options = parser.parse_args()
    for nodes in options.nodes:
        print(json.dumps(simulate(nodes, options.minima)), flush=True)


if __name__ == "__main__":
    main()
