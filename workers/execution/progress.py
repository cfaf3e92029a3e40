"""How running tasks report their progress, and how they are asked to stop."""

from collections.abc import Callable

from workers.tasks.results import FailureKind


class TaskFailure(Exception):
    """A task that ends without a result for a reason that is not a bug of this program."""

    def __init__(self, kind: FailureKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Interrupted(Exception):
    """The worker was asked to stop; the last checkpoint is published."""


class TaskProgress:
    """The share done of each running task, read by other threads while the tasks run."""

    def __init__(self, stopping: Callable[[], bool] = lambda: False) -> None:
        self._stopping = stopping
        self.path_epochs = 0
        """Epochs of path optimisation since the start, summed over paths: the measure of throughput."""
        self._running: dict[str, float] = {}

    def start(self, *keys: str) -> None:
        """These tasks run from now on, and no others."""
        self._running = dict.fromkeys(keys, 0.0)

    def share(self, key: str, done: float) -> None:
        """Report that `done` (0 to 1) of a running task is done.

        Raises:
            Interrupted: the worker was asked to stop.
        """
        self._running = {**self._running, key: done}  # a new value, so that readers need no lock
        if self._stopping():
            raise Interrupted(key)

    def stop(self) -> None:
        """No task runs."""
        self._running = {}

    def ended(self, key: str) -> None:
        """One of several running tasks has ended."""
        self._running = {k: share for k, share in self._running.items() if k != key}

    def shares(self) -> dict[str, float]:
        """The share done of each running task, by key."""
        return dict(self._running)
