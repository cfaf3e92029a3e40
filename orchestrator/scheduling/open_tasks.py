"""The open tasks (neither complete nor failed): states, dependencies, and the queue of ready tasks."""

from collections import deque
from collections.abc import Iterator
from itertools import islice

from orchestrator.scheduling.messages import NOT_LASTING, Complete, Fail, OpenTask
from orchestrator.scheduling.task_states import IllegalTransition, Status, TaskState
from workers.tasks.results import Failed, FailureKind


class OpenTasks:
    """A table of the open tasks, and the queue of those that are ready. Completed tasks are removed.

    Attributes:
        done: number of completed tasks.
        failed: kind of each failure of this and of earlier drivers, by key.
    """

    def __init__(self) -> None:
        self.done = 0
        self.failed: dict[str, FailureKind] = {}
        self._tasks: dict[str, TaskState] = {}
        self._ready: deque[str] = deque()
        self._paused: list[str] = []
        self._dependents: dict[str, list[str]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, key: str) -> bool:
        return key in self._tasks

    def __getitem__(self, key: str) -> TaskState:
        return self._tasks[key]

    def get(self, key: str) -> TaskState | None:
        """The task, if it is open."""
        return self._tasks.get(key)

    @property
    def ready(self) -> int:
        """Number of tasks that could start now if a worker were free."""
        return len(self._ready)

    def running(self, key: str, event: str) -> TaskState:
        """Return a running task, after adding the event that concerns it to its history.

        Raises:
            IllegalTransition: the task is not running.
        """
        task = self._tasks.get(key)
        if task is None:
            raise IllegalTransition(f"{key} is not open and yet: {event}")
        task.history.append(event)
        if task.status is not Status.RUNNING:
            raise task.illegal(event)
        return task

    # Transitions.

    def add(self, new: OpenTask) -> list[Fail]:
        """Add a task, unless it is open already; it fails at once if one of its dependencies has failed."""
        if new.key in self._tasks:
            return []
        broken = [d for d in new.depends_on if d in self.failed]
        task = TaskState(new, {d for d in new.depends_on if d in self._tasks})
        self._tasks[new.key] = task
        if broken:
            reason = f"needs {broken[0]}, which failed"
            return self.fail(Failed(new.key, FailureKind.DEPENDS_ON_FAILED, reason))
        for dependency in task.missing:
            self._dependents.setdefault(dependency, []).append(new.key)
        if not task.missing:
            self.make_ready(task)
        return []

    def make_ready(self, task: TaskState, *, first: bool = False) -> None:
        """Put a task at the end of the queue or, with `first`, at its head."""
        task.move(Status.READY)
        (self._ready.appendleft if first else self._ready.append)(task.open.key)

    def complete(self, key: str) -> list[Complete]:
        """Complete a task, and queue the tasks that waited for it alone."""
        task = self._tasks.get(key)
        if task is None:
            return []
        task.move(Status.DONE)
        del self._tasks[key]
        self.done += 1
        for dependent in self._dependents.pop(key, ()):
            waiting = self._tasks.get(dependent)
            if waiting is not None:
                waiting.missing.discard(key)
                if not waiting.missing and waiting.status is Status.WAITING:
                    self.make_ready(waiting)
        return [Complete(key)]

    def fail(self, failure: Failed) -> list[Fail]:
        """Fail a task and all tasks that depend on it."""
        task = self._tasks.pop(failure.key)
        task.move(Status.FAILED)
        self.failed[failure.key] = failure.kind
        failures = [Fail(failure, failure.kind not in NOT_LASTING)]
        reason = f"needs {failure.key}, which failed"
        for dependent in self._dependents.pop(failure.key, ()):
            if dependent in self._tasks:
                failures += self.fail(Failed(dependent, FailureKind.DEPENDS_ON_FAILED, reason))
        return failures

    def pause(self, task: TaskState, until: float) -> None:
        """Keep a task out of the queue until the time `until`, in seconds."""
        task.move(Status.PAUSED)
        task.not_before = until
        self._paused.append(task.open.key)

    def wake(self, now: float) -> None:
        """Queue the tasks whose pause has ended by the time `now`, in seconds."""
        still = []
        for key in self._paused:
            task = self._tasks[key]
            if task.not_before <= now:
                self.make_ready(task)
            else:
                still.append(key)
        self._paused = still

    # The queue.

    @property
    def next(self) -> TaskState:
        """The task at the head of the queue, which must not be empty."""
        return self._tasks[self._ready[0]]

    def head(self, count: int) -> Iterator[TaskState]:
        """The first `count` tasks of the queue, in order."""
        return (self._tasks[key] for key in islice(self._ready, count))

    def defer(self) -> None:
        """Move the head of the queue to its end."""
        self._ready.rotate(-1)

    def start(self, count: int, worker: str) -> None:
        """Mark the first `count` tasks of the queue as running on a worker."""
        for _ in range(count):
            task = self._tasks[self._ready.popleft()]
            task.move(Status.RUNNING)
            task.workers = {worker}

    def validate(self, running: set[str]) -> None:
        """Check that the parts of the state agree with each other.

        Args:
            running: keys of the tasks that workers hold.

        Raises:
            IllegalTransition: they disagree.
        """
        for status, keys in (
            (Status.READY, list(self._ready)),
            (Status.RUNNING, list(running)),
            (Status.PAUSED, self._paused),
        ):
            expected = sorted(key for key, task in self._tasks.items() if task.status is status)
            if sorted(keys) != expected:
                raise IllegalTransition(f"{status.value}: {sorted(keys)} listed, {expected} marked")
        for key, task in self._tasks.items():
            if (task.status is Status.WAITING) != bool(task.missing):
                raise task.illegal(f"kept with {task.missing or 'nothing'} missing")
            if not task.missing <= self._tasks.keys():
                raise task.illegal("left waiting for a task that is not open")
            if key in self.failed:
                raise task.illegal("failed as well")
