"""The workers of a run as Ray actors, and the state that the driver keeps about each."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.actor import ActorHandle

from orchestrator.cluster.metrics import WorkerMetrics
from workers.execution.worker import Worker, WorkerContext
from workers.problems.dataset import Dataset
from workers.tasks.results import TaskResult
from workers.tasks.specs import DataSpec
from workers.tasks.task import Task

MakeWorker = Callable[[WorkerContext, str, Callable[[], bool]], Worker]
LoadData = Callable[[DataSpec], Dataset]


class WorkerActor:
    """The Ray actor that runs a `Worker`.

    Args:
        context: settings of the worker.
        name: of the worker.
        make: makes the `Worker` from the context, the name and a function that returns whether to stop.
    """

    def __init__(self, context: WorkerContext, name: str, make: MakeWorker) -> None:
        self._leaving = threading.Event()
        self._worker = make(context, name, self._leaving.is_set)
        self._metrics = WorkerMetrics()

    def join(self, load_data: LoadData) -> str:
        """Set the function that loads data; return Ray's identifier of the node.

        `load_data` is no argument of the constructor, because Ray cannot restart an actor whose constructor
        arguments refer to lost objects.
        """
        self._worker.load_data = load_data
        return str(ray.get_runtime_context().get_node_id())

    def run(self, pack: list[Task]) -> tuple[list[TaskResult], float]:
        """Run a pack; return its results and the seconds that it took."""
        started = time.monotonic()
        results = self._worker.run(pack)
        seconds = time.monotonic() - started
        self._metrics.finished(pack, seconds)
        return results, seconds

    def leave(self) -> None:
        """Stop the running pack at its next checkpoint; `run` then raises `Interrupted`."""
        self._leaving.set()

    def progress(self) -> dict[str, float]:
        """The completed share (0 to 1) of each running task, by key.

        The driver calls this every few seconds, so metrics are reported here as well.
        """
        self._metrics.counted(self._worker.counters())
        return dict(self._worker.progress())


@dataclass(frozen=True)
class Unreachable:
    """Marks a worker that cannot be reached while it is unknown whether its process or its node has failed.

    Attributes:
        error: that Ray raised.
        since: time of the error, in seconds of `time.monotonic`.
    """

    error: Exception
    since: float


@dataclass
class Member:
    """The state that the driver keeps about one actor."""

    name: str
    handle: ActorHandle
    node: str = ""
    joined: bool = False
    unreachable: Unreachable | None = None
    leaving: bool = False
    """Whether its node drains, so that it was asked to stop at the next checkpoint."""
    asked: Any = None
    """Reference to the answer of a `progress` call that is still open, or None."""
    progress: dict[str, float] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    """Kind of each task that was sent to it, by key."""
    restarts: int | None = 0
    """How often Ray has restarted the actor, when that was last looked up; None since the worker was lost."""

    @property
    def is_pending(self) -> bool:
        """Whether it has never started, because the cluster has no room for it yet."""
        return not self.joined and not self.node
