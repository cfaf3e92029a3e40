"""Where packs of tasks are carried out: the protocol, and the executor that stays in this process."""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.scheduling.scheduler import PackFinished, WorkerJoined, WorkerLost
from workers.execution.worker import Worker, WorkerContext
from workers.tasks.tasks import Task


@dataclass(frozen=True)
class WorkerSlow:
    """A task has been as far as it is for so many seconds; its worker answers, and goes on."""

    worker: str
    key: str
    seconds: float


ExecutorEvent = WorkerJoined | WorkerLost | PackFinished | WorkerSlow


class WorkersUnavailable(Exception):
    """There is no cluster, or no worker can start on it; one sentence."""


class Executor(Protocol):
    """Workers that take packs and report back.

    Lost workers are reported, never hidden: who does their work again is decided in `state.py`.
    """

    def submit(self, worker: str, pack: Sequence[Task]) -> None:
        """Queue a pack on a worker that has joined; returns at once."""

    def poll(self, timeout: float) -> list[ExecutorEvent]:
        """What happened since the last call, waiting up to `timeout` seconds for something."""

    def progress(self) -> Mapping[str, float]:
        """For each running task, the share of it that is done, as far as is known."""

    def close(self) -> None:
        """Let go of all workers now; what they had not published is lost."""


class InProcess:
    """One worker, in this process: for debugging, for tests, and where no cluster is wanted."""

    name = "local"

    def __init__(self, context: WorkerContext) -> None:
        self._worker = Worker(context, self.name)
        self._packs: deque[Sequence[Task]] = deque()
        self._joined = False

    def submit(self, worker: str, pack: Sequence[Task]) -> None:
        self._packs.append(pack)

    def poll(self, timeout: float) -> list[ExecutorEvent]:
        if not self._joined:
            self._joined = True
            return [WorkerJoined(self.name)]
        if not self._packs:
            time.sleep(timeout)
            return []
        started = time.monotonic()
        results = self._worker.run(self._packs.popleft())
        return [PackFinished(self.name, results, time.monotonic() - started)]

    def progress(self) -> Mapping[str, float]:
        return self._worker.progress()

    def close(self) -> None:
        self._packs.clear()
