"""How running tasks report their progress, when they publish checkpoints, and how they are asked to stop."""

import time
from collections.abc import Callable

from workers.tasks.results import FailureKind

CHECKPOINT_SECONDS = 60.0
"""Default time between two checkpoints: the work that is lost with a worker, at most."""


class TaskFailure(Exception):
    """A task that ends without a result for a reason that is not a bug of this program."""

    def __init__(self, kind: FailureKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Interrupted(Exception):
    """The worker was asked to stop; the last checkpoint is published."""


class TaskProgress:
    """The share done of each running task, read by other threads while the tasks run.

    Args:
        stopping: whether the worker was asked to stop.
        checkpoint_seconds: time between two checkpoints; 0 for one at every opportunity.
        clock: seconds that do not run backwards.
    """

    def __init__(
        self,
        stopping: Callable[[], bool] = lambda: False,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stopping, self._clock = stopping, clock
        self._checkpoint_seconds = checkpoint_seconds
        self._kept_at = clock()
        self._leaving = False
        self.path_epochs = 0
        """Epochs of path optimisation since the start, summed over paths: the measure of throughput."""
        self._running: dict[str, float] = {}

    def start(self, *keys: str) -> None:
        """These tasks run from now on, and no others."""
        self._running = dict.fromkeys(keys, 0.0)
        self._kept_at = self._clock()

    def checkpoint_is_due(self) -> bool:
        """Whether the running tasks should publish their states now; true restarts the time.

        True after the time between two checkpoints, and when the worker was asked to stop: the next `share`
        then interrupts the task, whose state is published by then.
        """
        now, self._leaving = self._clock(), self._stopping()
        if self._leaving or now - self._kept_at >= self._checkpoint_seconds:
            self._kept_at = now
            return True
        return False

    def share(self, key: str, done: float) -> None:
        """Report that `done` (0 to 1) of a running task is done.

        Raises:
            Interrupted: the worker was asked to stop, as `checkpoint_is_due` has seen.
        """
        self._running = {**self._running, key: done}  # a new value, so that readers need no lock
        if self._leaving:
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
