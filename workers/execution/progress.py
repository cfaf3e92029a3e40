"""How running tasks report their progress, when they publish checkpoints, and how they are asked to stop."""

import time
from collections.abc import Callable

from workers.tasks.results import FailureKind

_ASK_SECONDS = 1.0  # least time between two looks for a request to stop within a step
CHECKPOINT_SECONDS = 60.0
"""Default time in seconds between two checkpoints: the most work that is lost if a worker is killed."""


class TaskFailure(Exception):
    """Ends a task without a result, for a known reason that is not a bug of this program.

    Args:
        kind: of the failure.
        reason: one sentence for the user.
    """

    def __init__(self, kind: FailureKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Interrupted(Exception):
    """Ends a task because the worker was asked to stop; the last checkpoint is published."""


class TaskProgress:
    """The share done of each running task, which other threads may read while the tasks run.

    Args:
        stopping: returns whether the worker was asked to stop.
        checkpoint_seconds: time between two checkpoints; 0 for one at every opportunity.
        clock: returns the time in seconds; it must be monotonic.
    """

    def __init__(
        self,
        stopping: Callable[[], bool] = lambda: False,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stopping, self._clock = stopping, clock
        self._checkpoint_seconds = checkpoint_seconds
        self._kept_at = self._asked_at = clock()
        self._leaving = False
        self.path_epochs = 0
        """Epochs of path optimisation since the worker started, summed over paths: the measure of
        throughput."""
        self._running: dict[str, float] = {}

    def start(self, *keys: str) -> None:
        """Register the tasks with these keys as running, in place of all others."""
        self._running = dict.fromkeys(keys, 0.0)
        self._kept_at = self._clock()

    def checkpoint_is_due(self) -> bool:
        """Whether the running tasks should publish a checkpoint now; if true, the interval starts again.

        It is true if `checkpoint_seconds` have passed since the last checkpoint, or if the worker was asked
        to stop. In the second case the next call of `share` raises `Interrupted`, after the caller has
        published its checkpoint.
        """
        now, self._leaving = self._clock(), self._stopping()
        if self._leaving or now - self._kept_at >= self._checkpoint_seconds:
            self._kept_at = now
            return True
        return False

    def stop_if_asked(self) -> None:
        """End the running task within a step if the worker was asked to stop; a look at most once a second.

        Raises:
            Interrupted: the caller publishes the state before the step.
        """
        now = self._clock()
        if now - self._asked_at >= _ASK_SECONDS:
            self._asked_at = now
            if self._stopping():
                raise Interrupted(*self._running)

    def share(self, key: str, done: float) -> None:
        """Report that the share `done` (0 to 1) of a running task is done.

        Raises:
            Interrupted: the worker had been asked to stop at the last call of `checkpoint_is_due`.
        """
        self._running = {**self._running, key: done}  # a new dict, so that readers need no lock
        if self._leaving:
            raise Interrupted(key)

    def stop(self) -> None:
        """Register that no task runs any more."""
        self._running = {}

    def ended(self, key: str) -> None:
        """Register that one of the running tasks has ended."""
        self._running = {k: share for k, share in self._running.items() if k != key}

    def shares(self) -> dict[str, float]:
        """The share done of each running task, by key."""
        return dict(self._running)
