"""A cluster in simulated time: workers that finish, are lost and come back, and what the run was like."""

import heapq
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from orchestrator.scheduling.executor import ExecutorEvent
from orchestrator.scheduling.messages import Loss, PackFinished, WorkerJoined, WorkerLost
from tests.benchmarks.simulated_store import LATENCY, Clock, Remote, Template
from tests.helpers.memory_objects import MemoryObjects
from tests.helpers.records import minimum_record, pair_record
from workers.storage.immutable_objects import ImmutableObjects
from workers.storage.object_names import records_folder, segment_stem
from workers.storage.objects import StoreUnreachable
from workers.tasks.path_tasks import OptimizePath
from workers.tasks.results import Done, Failed, FailureKind, Segment, TaskResult
from workers.tasks.task import Task

GPUS = 8
KEY_LENGTH = 32
CHECKPOINT_SECONDS = 60.0
LOSS_SECONDS, RETURN_SECONDS = 300.0, 120.0
RESTART_SECONDS = 10.0
WAVE_SECONDS, WAVE_RETURN_SECONDS = 7200.0, 600.0


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
