"""The actors of a run: a worker as Ray sees it, and what the driver knows of it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.actor import ActorHandle

from orchestrator.cluster.metrics import WorkerMetrics
from workers.execution.worker import Worker, WorkerContext
from workers.problems.data_sets import Dataset
from workers.tasks.results import TaskResult
from workers.tasks.specs import DataSpec
from workers.tasks.task import Task

MakeWorker = Callable[[WorkerContext, str, Callable[[], bool]], Worker]
LoadData = Callable[[DataSpec], Dataset]


class WorkerActor:
    """The worker as Ray sees it."""

    def __init__(self, context: WorkerContext, name: str, make: MakeWorker) -> None:
        self._leaving = threading.Event()
        self._worker = make(context, name, self._leaving.is_set)
        self._metrics = WorkerMetrics()

    def join(self, load_data: LoadData) -> str:
        """Load data like this from now on; returns Ray's identifier of the node.

        The constructor does not take it: Ray would not start an actor again whose constructor had references
        to lost objects.
        """
        self._worker.load_data = load_data
        return str(ray.get_runtime_context().get_node_id())

    def run(self, pack: list[Task]) -> tuple[list[TaskResult], float]:
        """The results of a pack, and how many seconds it took."""
        started = time.monotonic()
        results = self._worker.run(pack)
        seconds = time.monotonic() - started
        self._metrics.finished(pack, seconds)
        return results, seconds

    def leave(self) -> None:
        """Stop the running pack at its next checkpoint; `run` then raises `Interrupted`."""
        self._leaving.set()

    def progress(self) -> dict[str, float]:
        """Completed shares of the running tasks. Asked every few seconds: metrics are reported, too."""
        self._metrics.counted(self._worker.counters())
        return dict(self._worker.progress())


@dataclass(frozen=True)
class Doubt:
    """A worker that cannot be reached: its process may have died, or its node."""

    error: Exception
    since: float


@dataclass
class Member:
    """What the driver knows of one actor."""

    name: str
    handle: ActorHandle
    node: str = ""
    joined: bool = False
    doubt: Doubt | None = None
    leaving: bool = False
    """Its node drains: it was asked to stop at the next checkpoint."""
    asked: Any = None
    """The open question for its progress."""
    progress: dict[str, float] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    """Kinds of the tasks that it was given, by key."""

    @property
    def is_pending(self) -> bool:
        """Whether it has never started: there is no room for it yet."""
        return not self.joined and not self.node


class StartFailures:
    """Workers whose start failed: each is tried again, and the run ends only if none can start.

    Args:
        attempts: starts of one worker before it is given up.
    """

    def __init__(self, attempts: int = 3) -> None:
        self._attempts = attempts
        self._failed: dict[str, int] = {}

    def failed(self, name: str) -> bool:
        """The start of a worker failed; returns whether it should be tried again."""
        self._failed[name] = self._failed.get(name, 0) + 1
        return self._failed[name] < self._attempts

    def has_failed(self, name: str) -> bool:
        """Whether the last start of a worker failed."""
        return name in self._failed

    def started(self, name: str) -> None:
        """The worker has started after all."""
        self._failed.pop(name, None)
