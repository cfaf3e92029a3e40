"""The protocol of executors, which run packs of tasks on workers, and a local executor."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.scheduling.messages import PackFinished, WorkerJoined, WorkerLost
from workers.execution.worker import Worker, WorkerContext
from workers.tasks.task import Task


@dataclass(frozen=True)
class WorkerSlow:
    """A task has made no progress for `seconds`; its worker still answers and is not replaced."""

    worker: str
    key: str
    seconds: float


@dataclass(frozen=True)
class NoWorkers:
    """No worker has been there for some time; `reason` is one sentence for the user."""

    reason: str


ExecutorEvent = WorkerJoined | WorkerLost | PackFinished | WorkerSlow | NoWorkers


class WorkersUnavailable(Exception):
    """There is no cluster, or no worker can start on it; the message is one sentence."""


class ClusterGone(WorkersUnavailable):
    """The cluster went down during the run; starting the run again continues it."""


class Executor(Protocol):
    """A set of workers that run packs of tasks and return their results.

    An executor reports every lost worker and never repeats a task: the scheduler decides which worker does.
    """

    def submit(self, worker: str, pack: Sequence[Task]) -> None:
        """Queue a pack on a worker that has joined; returns at once."""

    def poll(self, timeout: float) -> list[ExecutorEvent]:
        """Return the events since the last call; wait up to `timeout` seconds for the first one."""

    def progress(self) -> Mapping[str, float]:
        """The completed share (0 to 1) of each running task that has reported one, by key."""

    def replace(self, worker: str, *, start_again: bool) -> None:
        """Stop a worker and drop its packs; with `start_again`, restart it, and it joins again."""

    def retire(self, worker: str) -> None:
        """Stop an idle worker, so that its machine can be released."""

    def want(self, tasks: int) -> None:
        """Set the number of open tasks, which is an upper bound for the number of workers that are needed."""

    def close(self) -> None:
        """Stop all workers; running tasks get a few seconds to publish their checkpoints."""


class InProcess:
    """An executor with one worker in this process: for debugging, for tests, and for runs without a cluster.

    Args:
        context: settings of the worker.
        leaving: returns whether to end at once; called at every checkpoint of a task.
    """

    name = "local"

    def __init__(self, context: WorkerContext, leaving: Callable[[], bool] = lambda: False) -> None:
        self._context, self._leaving = context, leaving
        self._worker = Worker(context, self.name, leaving)
        self._packs: deque[Sequence[Task]] = deque()
        self._joins = True

    def submit(self, worker: str, pack: Sequence[Task]) -> None:
        self._packs.append(pack)

    def poll(self, timeout: float) -> list[ExecutorEvent]:
        if self._joins:
            self._joins = False
            return [WorkerJoined(self.name)]
        if not self._packs:
            time.sleep(timeout)
            return []
        started = time.monotonic()
        results = self._worker.run(self._packs.popleft())
        return [PackFinished(self.name, results, time.monotonic() - started)]

    def progress(self) -> Mapping[str, float]:
        return self._worker.progress()

    def replace(self, worker: str, *, start_again: bool) -> None:
        self._packs.clear()
        if start_again:
            self._worker = Worker(self._context, self.name, self._leaving)
            self._joins = True

    def retire(self, worker: str) -> None:
        """Does nothing: the worker is this process."""

    def want(self, tasks: int) -> None:
        """Does nothing: there is always one worker."""

    def close(self) -> None:
        self._packs.clear()
