"""How a running task tells how far it is, and how it is told to stop."""

import time
from collections.abc import Callable

from workers.tasks.results import FailureKind


class TaskFailure(Exception):
    """A task that ends without a result for a reason that is not a bug of ours."""

    def __init__(self, kind: FailureKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Interrupted(Exception):
    """The worker was asked to stop; the last checkpoint is published."""


class Telling:
    """The running tasks' shares done, read from other threads while they run."""

    def __init__(self, stopping: Callable[[], bool] = lambda: False) -> None:
        self._stopping = stopping
        self.path_epochs = 0
        """Epochs of path optimisation since the start, summed over paths: what throughput is told by."""
        self._running: dict[str, float] = {}
        self.last_word = time.monotonic()

    def start(self, *keys: str) -> None:
        """These tasks run from now on, and no others."""
        self._say(dict.fromkeys(keys, 0.0))

    def share(self, key: str, done: float) -> None:
        """Say that `done` (0 to 1) of a running task is done.

        Raises:
            Interrupted: somebody asked to stop.
        """
        self._say({**self._running, key: done})
        if self._stopping():
            raise Interrupted(key)

    def stop(self) -> None:
        """Nothing runs."""
        self._say({})

    def left(self, key: str) -> None:
        """One of several running tasks has come to its end."""
        self._say({k: share for k, share in self._running.items() if k != key})

    def progress(self) -> dict[str, float]:
        return dict(self._running)

    def _say(self, running: dict[str, float]) -> None:
        self._running = running  # a new value each time, so that readers need no lock
        self.last_word = time.monotonic()
