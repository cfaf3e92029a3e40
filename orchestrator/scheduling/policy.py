"""Thresholds of the scheduler, and the policies that need no knowledge of single tasks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Policy:
    """Thresholds; times in seconds."""

    max_attempts: int = 3
    """Attempts of a task that, alone on a worker, kills or breaks it."""
    shared_kills: int = 2
    """Workers that a task may kill in a pack with others before it has to run alone."""
    pack_seconds: float = 2.0
    """Work that one pack should hold: much longer than sending it, much shorter than a run."""
    max_pack: int = 512
    """Tasks in a pack, at most: after a loss the store is asked for each of its tasks."""
    paths_at_once: int = 1
    """Paths that a worker optimises together: a pack should hold as many, if every worker gets some."""
    backoff: float = 1.0
    """First pause after the store did not answer; it doubles up to `max_backoff`."""
    max_backoff: float = 30.0
    patience: float = 600.0
    """How long a store may be unreachable before the run gives up (it can be continued later)."""
    outage_gap: float = 120.0
    """Reports of an unreachable store that are further apart belong to two outages, since every paused task
    tries again within `max_backoff`; above that, it is the time in which a request gives up."""
    broken_by: int = 3
    """Different tasks in a row that fail for the set-up of a worker before it is drained."""
    broken_starts: int = 5
    """Failures in a row, of whatever tasks, before a worker is drained."""
    idle_seconds: float = float("inf")
    """A worker that is idle for longer and for which no open task is left is retired; never by default."""
    copy_factor: float = 3.0
    """A task that has run for so many times the median of its kind is copied to an idle worker."""
    copy_after: int = 10
    """Completed tasks of a kind before their median counts."""
    copy_seconds: float = 120.0
    """No task is copied earlier: a copy goes on from a checkpoint that may be a minute old."""
    same_failures: int = 10
    """Tasks in a row that fail for the same reason, with none completed, before the run gives up."""


class PackSizes:
    """How many tasks one pack holds, from how long tasks of their kind took so far."""

    SMOOTHING = 0.3
    """Weight of the newest pack in the running average: after three packs older ones weigh a third."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._seconds_per_task: dict[str, float] = {}

    def learn(self, kind: str, tasks: int, seconds: float) -> None:
        """A pack of so many tasks of a kind took so many seconds."""
        each = seconds / tasks
        known = self._seconds_per_task.get(kind)
        self._seconds_per_task[kind] = (
            each if known is None else (1 - self.SMOOTHING) * known + self.SMOOTHING * each
        )

    def size(self, kind: str, *, ready: int, workers: int, idle: int, together: bool) -> int:
        """Tasks for the next pack.

        Args:
            kind: of the tasks.
            ready: tasks that could start now.
            workers: all workers.
            idle: workers without work.
            together: whether a worker optimises tasks of this kind at the same time.
        """
        policy, each = self._policy, self._seconds_per_task.get(kind)
        at_once = 1
        if together:
            share = -(-ready // max(1, idle or workers))
            at_once = min(policy.paths_at_once, share)
        if each is None:
            return max(1, at_once)
        fair = max(1, ready // (2 * max(1, workers)))
        wanted = int(policy.pack_seconds / max(each, 1e-6))
        return max(1, at_once, min(wanted, fair, policy.max_pack))

    def depth(self, kind: str, size: int) -> int:
        """Packs that a worker holds: short ones are queued, so that it never waits for the driver."""
        each = self._seconds_per_task.get(kind, float("inf"))
        return 2 if each * size <= self._policy.pack_seconds else 1


class StoreOutage:
    """Whether the store is unreachable, since when, and how long to pause before the next try."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._since: float | None = None
        self._last = 0.0
        self._pause = 0.0

    def failed(self, now: float) -> float:
        """A task could not reach the store; returns the pause in seconds before it tries again."""
        if self._since is None or now - self._last > self._policy.outage_gap:
            self._since, self._pause = now, 0.0
        self._last = now
        self._pause = min(max(2 * self._pause, self._policy.backoff), self._policy.max_backoff)
        return self._pause

    def answered(self) -> None:
        """A record was published."""
        self._since, self._pause = None, 0.0

    def is_hopeless(self, now: float) -> bool:
        """Whether this outage has lasted longer than the policy's patience."""
        return self._since is not None and now - self._since > self._policy.patience
