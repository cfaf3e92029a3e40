"""How a running task tells how far it is, and how it is told to stop."""

import time
from collections.abc import Callable

from workers.results import FailureKind


class TaskFailure(Exception):
    """A task that ends without a result for a reason that is not a bug of ours."""

    def __init__(self, kind: FailureKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Interrupted(Exception):
    """The worker was asked to stop; the last checkpoint is published."""


class Telling:
    """The running task's share done, read from other threads while the task runs."""

    def __init__(self, stopping: Callable[[], bool] = lambda: False) -> None:
        self._stopping = stopping
        self.path_epochs = 0
        """Epochs of path optimisation since the start, summed over paths: what throughput is told by."""
        self._running: tuple[str, float] | None = None
        self.last_word = time.monotonic()

    def start(self, key: str) -> None:
        self._say((key, 0.0))

    def share(self, key: str, done: float) -> None:
        """Say that `done` (0 to 1) of the task is done.

        Raises:
            Interrupted: somebody asked to stop.
        """
        self._say((key, done))
        if self._stopping():
            raise Interrupted(key)

    def stop(self) -> None:
        self._say(None)

    def progress(self) -> dict[str, float]:
        running = self._running
        return {running[0]: running[1]} if running else {}

    def _say(self, running: tuple[str, float] | None) -> None:
        self._running = running
        self.last_word = time.monotonic()
