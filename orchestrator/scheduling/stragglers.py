"""Which running task gets a second copy on an idle worker because it takes far longer than its peers.

A slow disk, a hot GPU or a throttled node can delay the last path, and with it the whole run. A copy is
harmless: the key of a task names its result, the first result completes it, and the other worker is
stopped. The rule is that of MapReduce and of cubed: a task that has run for a multiple of the
median time of its kind, once enough tasks of the kind are complete. Times are passed in.
"""

from collections import deque
from statistics import median

from orchestrator.scheduling.policy import Policy

_REMEMBERED = 200
"""Durations of a kind that are kept: enough for a median, of the present state of the cluster."""


class Stragglers:
    """The durations of completed tasks, by kind, and the verdict on a running one."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._seconds: dict[str, deque[float]] = {}

    def learn(self, kind: str, seconds: float) -> None:
        """A task of a kind has completed after so many seconds on its worker."""
        self._seconds.setdefault(kind, deque(maxlen=_REMEMBERED)).append(seconds)

    def is_one(self, kind: str, seconds: float) -> bool:
        """Whether a task of a kind that has run for so many seconds should get a copy."""
        policy, known = self._policy, self._seconds.get(kind, ())
        if seconds < policy.copy_seconds or len(known) < policy.copy_after:
            return False
        return seconds > policy.copy_factor * median(known)
