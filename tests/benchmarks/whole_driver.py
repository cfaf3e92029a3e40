"""The whole driver in simulated time: planner, scheduler, commit log and store, with fake workers.

    python -m tests.benchmarks.whole_driver --nodes 64 --minima 300

The loop of `drive` is the real one, and so are the plan, the keys, the records, the commit log and its
compaction. Simulated are the clock, the workers, and a store in memory whose answers take 20 ms and fail once
in a hundred. Nodes of eight GPUs train minima and optimise all pairs, 1 to 300 s each. A node is lost every
five minutes and back after two; every two hours a wave of spot nodes, half of all, is gone for ten minutes.
"""

import argparse
import heapq
import io
import json
import math
import random
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any
from unittest import mock

import psutil
import pyarrow.parquet as pq

from orchestrator.planning.plan import Plan
from orchestrator.runs import maintenance
from orchestrator.scheduling import store_retry
from orchestrator.scheduling.driver import drive
from orchestrator.scheduling.executor import ExecutorEvent
from orchestrator.scheduling.messages import Loss, PackFinished, WorkerJoined, WorkerLost
from orchestrator.scheduling.outcome import Ending
from orchestrator.scheduling.policy import Policy
from orchestrator.telemetry import events
from tests.benchmarks.many_pairs import plan_of
from tests.helpers.memory_objects import MemoryObjects
from tests.helpers.records import minimum_record, pair_record
from workers.storage.immutable_objects import ImmutableObjects
from workers.storage.object_names import records_folder, segment_stem
from workers.storage.objects import StoreUnreachable
from workers.storage.record_files import to_table
from workers.storage.run_store import Store
from workers.storage.schema import ResultRecord
from workers.tasks.path_tasks import OptimizePath
from workers.tasks.results import Done, Failed, FailureKind, Segment, TaskResult
from workers.tasks.task import Task

GPUS = 8
KEY_LENGTH = 32
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
    """What the run was like. Times in seconds: of the workers, simulated; of the loop, of a processor.

    Attributes:
        busy: time in which workers did work that counts.
        there: time in which workers were there.
        steady: (busy, there) when the last minimum was complete, and when fewer pairs than workers were left.
        memory: (hours, bytes of this process without those in the store), at every fiftieth of the pairs.
    """

    busy: float = 0.0
    there: float = 0.0
    completed: int = 0
    twice: int = 0
    workers_lost: int = 0
    slowest_event: float = 0.0
    loop_seconds: float = 0.0
    steady: list[tuple[float, float]] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)

    @property
    def steady_share(self) -> float:
        """Share of busy time without the training of minima and the last pairs."""
        (busy, there), (busy_then, there_then) = self.steady
        return (busy_then - busy) / (there_then - there)


class Template:
    """A file with one record, whose key is replaced: encoding half a million records would take longer than
    the driver.

    Args:
        record: any record.
    """

    def __init__(self, record: ResultRecord) -> None:
        sink = io.BytesIO()
        table = to_table([record])
        pq.write_table(
            table, sink, compression="none", use_dictionary=False, write_statistics=False
        )
        self._before, self._after = sink.getvalue().split(record.key.encode())
        self._length = len(record.key)

    def with_key(self, key: str) -> bytes:
        assert len(key) == self._length
        return self._before + key.encode() + self._after


class Awaited(ThreadPoolExecutor):
    """A thread for which the caller waits: simulated time passes faster than a compaction can follow, which
    on a cluster ends between two results."""

    def submit(self, *call: Any, **named: Any) -> Future[Any]:
        future = super().submit(*call, **named)
        wait([future])
        return future


class Lease:
    """A lease without contenders."""

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
        remote = Remote(objects, lambda seconds: None, self._draw)
        self._published = ImmutableObjects(remote)  # type: ignore[arg-type]
        self._pair = Template(pair_record("k" * KEY_LENGTH))
        self._minimum = Template(minimum_record("k" * KEY_LENGTH, object_="minima/any.0.x"))
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

    @property
    def there(self) -> float:
        """Seconds in which workers were there."""
        now = self._clock.now
        return self._figures.there + sum(now - joined for joined in self._lives.values())

    def close(self) -> None:
        self._figures.there = self.there

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
        """Publish the records of a pack, as a worker does, but a file for each."""
        results: list[TaskResult] = []
        for task in pack:
            is_path = isinstance(task, OptimizePath)
            data = (self._pair if is_path else self._minimum).with_key(task.key)
            folder = records_folder("pairs" if is_path else "minima")
            stem = segment_stem(1, worker, f"{next(self._number):012x}")
            try:
                name = self._published.publish(folder, stem, "parquet", data)
            except StoreUnreachable as error:
                self._left[task.key] = LATENCY
                results.append(Failed(task.key, FailureKind.STORE, str(error)))
            else:
                self._left.pop(task.key, None)
                segment = Segment(name, len(data))
                results.append(Done(task.key, 1.0, None if is_path else "minima/any.0.x", segment))
        return results

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
        """Count the work of the running pack that is in its checkpoints."""
        kept = seconds // CHECKPOINT_SECONDS * CHECKPOINT_SECONDS
        self._figures.busy += kept
        for task in pack:
            if task.key in self._left:
                done = min(kept, self._left[task.key] - LATENCY)
                self._left[task.key] -= done
                kept -= done


class Watch:
    """An observer that counts completed tasks, and measures as they go on.

    Args:
        plan: of the run.
        clock: of the simulation.
        objects: the content of the store.
        figures: receives what is counted.
        workers: number of workers.
    """

    def __init__(
        self, plan: Plan, clock: Clock, objects: MemoryObjects, figures: Figures, workers: int
    ) -> None:
        self.cluster: Cluster | None = None
        self._clock, self._objects, self._figures = clock, objects, figures
        keys = [*plan.minimum_keys, *plan.path_keys()]
        # Allocated before the run starts: what grows later is the driver's.
        self._numbers = {int(key[:16], 16): number for number, key in enumerate(keys)}
        self._done = bytearray(len(keys))
        self._steady = {len(plan.minimum_keys), len(keys) - workers}
        self._every = max(1, len(keys) // 50)

    def __call__(self, event: object) -> None:
        if not isinstance(event, events.TaskCompleted) or self.cluster is None:
            return
        figures, number = self._figures, self._numbers[int(event.key[:16], 16)]
        figures.completed += 1
        figures.twice += self._done[number]
        self._done[number] = 1
        if figures.completed in self._steady:
            figures.steady.append((figures.busy, self.cluster.there))
        if figures.completed % self._every == 0:
            stored = sum(info.size for info in self._objects.list())
            used = psutil.Process().memory_info().rss - stored
            figures.memory.append((self._clock.now / 3600, used))
            log(figures, self._clock.now, used, self._busy_share)

    @property
    def _busy_share(self) -> float:
        """Share of busy time since the last minimum was complete; nan before."""
        if not self._figures.steady or self.cluster is None:
            return math.nan
        busy, there = self._figures.steady[0]
        return (self._figures.busy - busy) / max(self.cluster.there - there, 1e-9)


def log(figures: Figures, now: float, used: int, share: float) -> None:
    """Write how far the simulation is to standard error."""
    completed = figures.completed
    print(
        f"{completed} tasks, busy {100 * share:.2f} % since the last minimum, "
        f"{now / 3600:.2f} h, {used / 1e6:.0f} MB, "
        f"loop {1e3 * figures.loop_seconds / completed:.3f} ms a task, "
        f"slowest {1e3 * figures.slowest_event:.1f} ms",
        file=sys.stderr,
        flush=True,
    )


def simulate(nodes: int, minima: int) -> dict[str, object]:
    """Figures of a run, in simulated seconds but for those of the loop, which are of a processor."""
    clock, objects, figures = Clock(), MemoryObjects(), Figures()
    remote = Remote(objects, clock.sleep, random.Random(0))
    store = Store(remote)  # type: ignore[arg-type]
    plan = plan_of("memory/run", minima)
    watch = Watch(plan, clock, objects, figures, GPUS * nodes)

    def cluster() -> Cluster:
        watch.cluster = Cluster(clock, objects, nodes, figures)
        return watch.cluster

    with (
        mock.patch.object(store_retry, "time", clock),
        mock.patch.object(maintenance, "ThreadPoolExecutor", Awaited),
    ):
        retry = store_retry.StoreRetry(Policy(), lambda reason: None, lambda: False)
        retry(lambda: store.take_over(1))
        outcome = drive(
            plan,
            store,
            cluster,
            Lease(),  # type: ignore[arg-type]
            notify=watch,
            clock=clock,
        )
    assert outcome.ending is Ending.COMPLETE, outcome
    whole = Store(objects)  # type: ignore[arg-type]
    assert whole.count("pairs") == plan.pair_count
    return {
        "nodes": nodes,
        "pairs": plan.pair_count,
        "hours": clock.now / 3600,
        "busy_share": figures.busy / figures.there,
        "steady_share": figures.steady_share,
        "twice": figures.twice,
        "workers_lost": figures.workers_lost,
        "driver_requests": remote.requests,
        "slowest_event": figures.slowest_event,
        "loop_ms_per_task": 1e3 * figures.loop_seconds / figures.completed,
        "store_bytes": sum(info.size for info in objects.list()),
        "memory": figures.memory,
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
