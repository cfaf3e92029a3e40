"""Thresholds of the scheduler, and its rules for the size of packs and for outages of the store."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Policy:
    """Thresholds of the scheduler; times in seconds."""

    max_attempts: int = 3
    """A task fails once it has killed this many workers while it ran alone, or broken this many proven
    ones."""
    shared_kills: int = 2
    """A task has to run alone once this many workers were lost while they ran it."""
    pack_seconds: float = 2.0
    """Intended duration of a pack: much longer than sending it takes, much shorter than a run."""
    max_pack: int = 512
    """Largest number of tasks in a pack: it limits how many tasks have to be sent again when a worker is
    lost."""
    paths_at_once: int = 1
    """Number of paths that a worker optimises in one batch. A pack holds as many if all workers then get
    some."""
    backoff: float = 1.0
    """First pause after a request to the store fails; it doubles up to `max_backoff`."""
    max_backoff: float = 30.0
    patience: float = 600.0
    """Time for which a store may be unreachable before the run gives up; the run can be continued later."""
    outage_gap: float = 120.0
    """Two failed requests that are further apart belong to different outages. Every paused task tries again
    within `max_backoff`; the rest of this time covers the timeout of the request itself."""
    broken_by: int = 3
    """A worker is drained once its set-up has made this many different tasks fail, with none completed in
    between."""
    broken_starts: int = 5
    """A worker is drained after this many such failures in a row, even if they are of the same task."""
    idle_seconds: float = float("inf")
    """A worker that has been idle for longer, and that no open task needs, is retired; by default never."""
    copy_factor: float = 3.0
    """A task is copied to an idle worker once it has run for this factor times the median duration of its
    kind."""
    copy_after: int = 10
    """No task of a kind is copied before this many tasks of the kind are complete: their median is not
    reliable."""
    copy_seconds: float = 120.0
    """No task is copied earlier than this: a copy starts from a checkpoint that may be a minute old."""
    same_failures: int = 10
    """The run gives up after this many consecutive failures for the same reason, with no task completed."""


class PackSizes:
    """Chooses the number of tasks in a pack from the durations of earlier tasks of the same kind."""

    SMOOTHING = 0.3
    """Weight of the newest pack in the running average: after three packs, the older ones weigh a third in
    total."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._seconds_per_task: dict[str, float] = {}

    def learn(self, kind: str, tasks: int, seconds: float) -> None:
        """Record that a pack of `tasks` tasks of a kind took `seconds`."""
        each = seconds / tasks
        known = self._seconds_per_task.get(kind)
        self._seconds_per_task[kind] = (
            each if known is None else (1 - self.SMOOTHING) * known + self.SMOOTHING * each
        )

    def size(self, kind: str, *, ready: int, workers: int, idle: int, together: bool) -> int:
        """The number of tasks for the next pack, at least 1.

        Args:
            kind: of the tasks.
            ready: number of tasks that could start now.
            workers: number of workers.
            idle: number of workers without a pack.
            together: whether a worker optimises several tasks of this kind in one batch.
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
        """Packs that a worker may hold: 2 short ones, so that it need not wait for the driver, or 1 long."""
        each = self._seconds_per_task.get(kind, float("inf"))
        return 2 if each * size <= self._policy.pack_seconds else 1


class StoreOutage:
    """Tracks an outage of the store: since when it has lasted, and the pause before the next attempt."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._since: float | None = None
        self._last = 0.0
        self._pause = 0.0

    def failed(self, now: float) -> float:
        """Record that a task could not reach the store; return the seconds until it is tried again."""
        if self._since is None or now - self._last > self._policy.outage_gap:
            self._since, self._pause = now, 0.0
        self._last = now
        self._pause = min(max(2 * self._pause, self._policy.backoff), self._policy.max_backoff)
        return self._pause

    def answered(self) -> None:
        """Record that a result was published: the outage is over."""
        self._since, self._pause = None, 0.0

    def is_hopeless(self, now: float) -> bool:
        """Whether this outage has lasted longer than `Policy.patience`."""
        return self._since is not None and now - self._since > self._policy.patience
