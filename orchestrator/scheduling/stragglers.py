"""Decides which running task gets a second copy, because it takes far longer than other tasks of its kind.

A slow disk, a hot GPU or a throttled node can delay the last path, and with it the whole run. A copy does no
harm: both copies have the same key and so the same result, the first result completes the task, and the other
worker is stopped. The rule is that of MapReduce and of cubed: once enough tasks of a kind are complete, a
task is copied that has run for a multiple of their median duration. No clock is read: durations are passed
in.
"""

from collections import deque
from statistics import median

from orchestrator.scheduling.policy import Policy

_REMEMBERED = 200
"""Number of durations kept per kind: enough for a median, and recent enough to show the present speed."""


class Stragglers:
    """Keeps the durations of completed tasks by kind, and tells which running tasks are stragglers."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._seconds: dict[str, deque[float]] = {}

    def learn(self, kind: str, seconds: float) -> None:
        """Record a completed task and its duration: the seconds of its pack per task of the pack."""
        self._seconds.setdefault(kind, deque(maxlen=_REMEMBERED)).append(seconds)

    def is_one(self, kind: str, seconds: float) -> bool:
        """Whether a task of a kind that has run for `seconds` should get a copy."""
        policy, known = self._policy, self._seconds.get(kind, ())
        if seconds < policy.copy_seconds or len(known) < policy.copy_after:
            return False
        return seconds > policy.copy_factor * median(known)
