"""The events about tasks: the scheduler knows a task by its key, observers by its title and attempt."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from orchestrator.telemetry import events
from orchestrator.telemetry.events import Observer
from workers.tasks.results import Done, Failed
from workers.tasks.task import Task


@dataclass(frozen=True)
class Attempt:
    """The worker and node to which a task was sent, and the number of the attempt."""

    worker: str = ""
    node: str = ""
    attempt: int = 0


class TaskReports:
    """The open tasks by key, and the events about them.

    Args:
        notify: receives the events.
    """

    def __init__(self, notify: Observer) -> None:
        self._notify = notify
        self._open: dict[str, Task] = {}
        self._figures: dict[str, float] = {}
        self._attempts: dict[str, Attempt] = {}
        """Where each open task runs or ran last."""
        self._nodes: dict[str, str] = {}

    def __getitem__(self, key: str) -> Task:
        return self._open[key]

    def opened(self, tasks: Iterable[Task]) -> None:
        """These tasks are open."""
        self._open |= {task.key: task for task in tasks}

    def joined(self, worker: str, node: str) -> None:
        """A worker is ready on a node."""
        self._nodes[worker] = node
        self._notify(events.WorkerJoined(worker, node))

    def started(self, worker: str, tasks: Sequence[Task]) -> None:
        """Tasks were sent to a worker."""
        for task in tasks:
            before = self._attempts.get(task.key, Attempt())
            this = Attempt(worker, self._nodes.get(worker, ""), before.attempt + 1)
            self._attempts[task.key] = this
            self._notify(events.TaskStarted(task.key, task.title, kind=task.noun, **asdict(this)))

    def slow(self, worker: str, key: str, seconds: float) -> None:
        """A task has made no progress for so long."""
        if task := self._open.get(key):
            self._notify(events.TaskSlow(key, task.title, worker, seconds))

    def returned(self, results: Iterable[Done]) -> None:
        """Note the figures of results, until their tasks are complete."""
        self._figures |= {
            result.key: result.figure for result in results if result.key in self._open
        }

    def completed(self, key: str) -> None:
        """A task is complete."""
        task, figure = self._open.pop(key), self._figures.pop(key, float("nan"))
        where = asdict(self._attempts.pop(key, Attempt()))
        self._notify(events.TaskCompleted(key, task.title, task.noun, figure, **where))

    def failed(self, failure: Failed) -> None:
        """A task has failed."""
        task = self._open.pop(failure.key)
        where = asdict(self._attempts.pop(failure.key, Attempt()))
        self._notify(
            events.TaskFailed(
                failure.key, task.title, task.noun, failure.kind, failure.reason, **where
            )
        )

    def shares(self, progress: Mapping[str, float]) -> Mapping[str, float]:
        """The shares done of running tasks, summed by kind."""
        shares: dict[str, float] = defaultdict(float)
        for key, share in progress.items():
            if task := self._open.get(key):
                shares[task.noun] += share
        return shares
