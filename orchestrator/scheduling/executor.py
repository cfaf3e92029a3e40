"""The protocol of executors, which carry out packs of tasks, and the executor inside this process."""

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
    """A task made no progress for so many seconds; its worker answers and is not replaced."""

    worker: str
    key: str
    seconds: float


ExecutorEvent = WorkerJoined | WorkerLost | PackFinished | WorkerSlow


class WorkersUnavailable(Exception):
    """There is no cluster, or no worker can start on it; one sentence."""


class ClusterGone(WorkersUnavailable):
    """The cluster went down during the run; a run that is started again continues."""


class Executor(Protocol):
    """Workers that take packs and return results.

    Lost workers are reported, never hidden: the scheduler decides which worker repeats their tasks.
    """

    def submit(self, worker: str, pack: Sequence[Task]) -> None:
        """Queue a pack on a worker that has joined; returns at once."""

    def poll(self, timeout: float) -> list[ExecutorEvent]:
        """The events since the last call, waiting up to `timeout` seconds for the first."""

    def progress(self) -> Mapping[str, float]:
        """For each running task, the share of it that is done (0 to 1), as far as is known."""

    def replace(self, worker: str, *, start_again: bool) -> None:
        """Stop a worker whose set-up is broken, with its packs; it joins again if it is started again."""

    def retire(self, worker: str) -> None:
        """Stop a worker that is idle, so that its machine can be given back."""

    def want(self, tasks: int) -> None:
        """Report that `tasks` tasks are open, so that more workers than that are not needed."""

    def close(self) -> None:
        """Stop all workers; running tasks have a few seconds to publish their checkpoints."""


class InProcess:
    """One worker, in this process: for debugging, for tests, and where no cluster is wanted.

    Args:
        context: for the worker.
        leaving: whether to end at once; called at every checkpoint of a task.
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
        """Nothing: its machine is the driver's own."""

    def want(self, tasks: int) -> None:
        """Nothing: there is one worker."""

    def close(self) -> None:
        self._packs.clear()
