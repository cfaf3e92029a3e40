"""Emits the events about tasks, with title, worker, node and attempt; the scheduler knows only keys."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.telemetry import events
from orchestrator.telemetry.events import Observer
from workers.tasks.results import Done, Failed
from workers.tasks.task import Task


@dataclass(frozen=True)
class Attempt:
    """The worker and node to which a task was sent, and the number of the attempt, from 1."""

    worker: str = ""
    node: str = ""
    attempt: int = 0


class TaskReports:
    """Keeps the open tasks by key, and emits the events about them.

    Args:
        notify: receives the events.
    """

    def __init__(self, notify: Observer) -> None:
        self._notify = notify
        self._open: dict[str, Task] = {}
        self._figures: dict[str, float] = {}
        self._attempts: dict[str, Attempt] = {}
        """The last attempt of each open task, by key."""
        self._nodes: dict[str, str] = {}

    def __getitem__(self, key: str) -> Task:
        return self._open[key]

    def opened(self, tasks: Iterable[Task]) -> None:
        """Add open tasks."""
        self._open |= {task.key: task for task in tasks}

    def joined(self, worker: str, node: str) -> None:
        """Report that a worker is ready on a node."""
        self._nodes[worker] = node
        self._notify(events.WorkerJoined(worker, node))

    def started(self, worker: str, tasks: Sequence[Task]) -> None:
        """Report that tasks were sent to a worker."""
        for task in tasks:
            before = self._attempts.get(task.key, Attempt())
            this = Attempt(worker, self._nodes.get(worker, ""), before.attempt + 1)
            self._attempts[task.key] = this
            self._notify(events.TaskStarted(task.key, task.title, kind=task.noun, **vars(this)))

    def slow(self, worker: str, key: str, seconds: float) -> None:
        """Report that a task has made no progress for `seconds`."""
        if task := self._open.get(key):
            self._notify(events.TaskSlow(key, task.title, worker, seconds))

    def returned(self, results: Iterable[Done]) -> None:
        """Keep the figure (loss, height or value) of each result until its task is reported as complete."""
        self._figures |= {
            result.key: result.figure for result in results if result.key in self._open
        }

    def completed(self, key: str) -> None:
        """Report that a task is complete, and forget it."""
        task, figure = self._open.pop(key), self._figures.pop(key, float("nan"))
        where = vars(self._attempts.pop(key, Attempt()))
        self._notify(events.TaskCompleted(key, task.title, task.noun, figure, **where))

    def failed(self, failure: Failed) -> None:
        """Report that a task has failed, and forget it."""
        task = self._open.pop(failure.key)
        where = vars(self._attempts.pop(failure.key, Attempt()))
        self._notify(
            events.TaskFailed(
                failure.key, task.title, task.noun, failure.kind, failure.reason, **where
            )
        )

    def shares(self, progress: Mapping[str, float]) -> Mapping[str, float]:
        """The completed shares of running tasks, summed by kind.

        Args:
            progress: completed share (0 to 1) of each task, by key.
        """
        shares: dict[str, float] = defaultdict(float)
        for key, share in progress.items():
            if task := self._open.get(key):
                shares[task.noun] += share
        return shares
