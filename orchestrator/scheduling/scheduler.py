"""What runs next: a pure machine from events to commands.

    waiting → ready → running → done
       │        ↑        │
       │        └────────┤  lost worker, store away, out of memory in company: again
       └────→ failed ←───┘  diverged, bad input, bug, kills its worker, depends on a failed task

No clock, no store, no Ray: time comes in with each event, and commands go out to be carried out by
`drive.py`. Open tasks alone are kept, so that half a million pairs pass through in flat memory.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice

from workers.tasks.results import Failed, FailureKind, TaskResult
from workers.tasks.tasks import OptimizePath


class Status(Enum):
    WAITING = "waiting"
    READY = "ready"
    RUNNING = "running"


class Loss(Enum):
    """How a worker went away, which decides who is blamed."""

    CRASHED = "its process died"
    PREEMPTED = "its node left"
    STALLED = "it made no progress"


@dataclass(frozen=True)
class Policy:
    """Thresholds; times in seconds."""

    max_attempts: int = 3
    """Tries of a task that, alone on a worker, kills it."""
    company_kills: int = 2
    """Workers that a task may take down in company before it has to run alone."""
    pack_seconds: float = 2.0
    """Work that one pack should hold: much longer than sending it, much shorter than a run."""
    max_pack: int = 512
    paths_at_once: int = 1
    """Paths that a worker walks together: a pack should hold as many, if every worker gets its share."""
    backoff: float = 1.0
    """First pause after the store did not answer; it doubles up to `max_backoff`."""
    max_backoff: float = 30.0
    patience: float = 600.0
    """How long a store may be away before the run gives up (it can be continued later)."""


@dataclass(frozen=True)
class Open:
    """A task as the machine sees it: a name, what it waits for, and what kind of work it is."""

    key: str
    depends_on: tuple[str, ...] = ()
    kind: str = ""


PASSING = frozenset({FailureKind.DEPENDS_ON_FAILED, FailureKind.DAMAGED})
"""Failures that the next `run` mends by itself, so nothing is written down for `retry`."""


# Events: what happened.


@dataclass(frozen=True)
class Added:
    """Tasks to be done. Dependencies that are neither open nor failed are taken as done."""

    tasks: Sequence[Open]


@dataclass(frozen=True)
class WorkerJoined:
    """`node` is where it runs, for logs."""

    worker: str
    node: str = ""


@dataclass(frozen=True)
class WorkerLost:
    """`done` are those of its tasks whose records are in the store all the same."""

    worker: str
    how: Loss
    cause: str
    done: frozenset[str] = frozenset()


@dataclass(frozen=True)
class PackFinished:
    worker: str
    results: Sequence[TaskResult]
    seconds: float


@dataclass(frozen=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True)
class StopRequested:
    """Hand out nothing more; what runs may finish."""


Event = Added | WorkerJoined | WorkerLost | PackFinished | Tick | StopRequested


# Commands: what is to be done about it.


@dataclass(frozen=True)
class Run:
    worker: str
    pack: tuple[str, ...]


@dataclass(frozen=True)
class Fail:
    """Write down that a task failed. `lasting` failures wait for `retry`; others go with their cause."""

    failure: Failed
    lasting: bool = True


@dataclass(frozen=True)
class Complete:
    key: str


@dataclass(frozen=True)
class GiveUp:
    """The store has been away for longer than the policy's patience."""

    reason: str


Command = Run | Fail | Complete | GiveUp


class IllegalTransition(Exception):
    """A bug in the machine or its driver; the message holds the task's history."""


@dataclass
class _Task:
    open: Open
    status: Status
    missing: set[str]
    kills: int = 0
    kills_alone: int = 0
    alone: bool = False
    not_before: float = 0.0
    history: list[str] = field(default_factory=list)


class Scheduler:
    """Holds the open tasks and the workers' queues; `handle` is its only way in."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.done = 0
        self.failed: dict[str, FailureKind] = {}
        self.stopping = False
        self._tasks: dict[str, _Task] = {}
        self._ready: deque[str] = deque()
        self._paused: list[str] = []
        self._dependents: dict[str, list[str]] = {}
        self._queues: dict[str, deque[tuple[str, ...]]] = {}
        self._seconds_per_task: dict[str, float] = {}
        self._store_away_since: float | None = None
        self._pause = 0.0

    @property
    def open_tasks(self) -> int:
        return len(self._tasks)

    @property
    def ready(self) -> int:
        """Tasks that could start now if a worker were free."""
        return len(self._ready)

    @property
    def running(self) -> int:
        return sum(len(pack) for queue in self._queues.values() for pack in queue)

    @property
    def workers(self) -> int:
        return len(self._queues)

    def packs_on(self, worker: str) -> tuple[tuple[str, ...], ...]:
        """What a worker was given, the running pack first."""
        return tuple(self._queues.get(worker, ()))

    def handle(self, event: Event, now: float) -> list[Command]:
        """Apply one event.

        Args:
            event: what happened.
            now: seconds on any clock that does not run backwards.

        Returns:
            What is to be done, in this order.

        Raises:
            IllegalTransition: the event contradicts what was known; the message tells the history.
        """
        commands: list[Command] = []
        match event:
            case Added(tasks):
                for task in tasks:
                    self._add(task, commands)
            case WorkerJoined(worker=worker):
                if worker in self._queues:
                    raise IllegalTransition(f"worker {worker} joined twice")
                self._queues[worker] = deque()
            case WorkerLost():
                self._lose(event, commands)
            case PackFinished():
                self._finish(event, now, commands)
            case StopRequested():
                self.stopping = True
            case Tick():
                pass
        self._wake(now)
        self._hand_out(commands)
        return commands

    # Transitions.

    def _add(self, new: Open, commands: list[Command]) -> None:
        if new.key in self._tasks:
            return
        broken = [d for d in new.depends_on if d in self.failed]
        task = _Task(new, Status.WAITING, {d for d in new.depends_on if d in self._tasks})
        self._tasks[new.key] = task
        if broken:
            self._fail(
                task, FailureKind.DEPENDS_ON_FAILED, f"needs {broken[0]}, which failed", commands
            )
            return
        for dependency in task.missing:
            self._dependents.setdefault(dependency, []).append(new.key)
        if not task.missing:
            self._make_ready(task)

    def _make_ready(self, task: _Task, *, first: bool = False) -> None:
        if task.status is Status.READY:
            self._illegal(task, "made ready")
        task.status = Status.READY
        (self._ready.appendleft if first else self._ready.append)(task.open.key)

    def _complete(self, key: str, commands: list[Command]) -> None:
        task = self._tasks.pop(key, None)
        if task is None:
            return
        if task.status is Status.WAITING:
            self._illegal(task, "completed")
        self.done += 1
        commands.append(Complete(key))
        for dependent in self._dependents.pop(key, ()):
            waiting = self._tasks.get(dependent)
            if waiting is not None:
                waiting.missing.discard(key)
                if not waiting.missing and waiting.status is Status.WAITING:
                    self._make_ready(waiting)

    def _fail(
        self,
        task: _Task,
        kind: FailureKind,
        reason: str,
        commands: list[Command],
        details: str = "",
    ) -> None:
        key = task.open.key
        self._tasks.pop(key)
        self.failed[key] = kind
        lasting = kind not in PASSING
        commands.append(Fail(Failed(key, kind, reason, details), lasting))
        for dependent in self._dependents.pop(key, ()):
            waiting = self._tasks.get(dependent)
            if waiting is not None:
                self._fail(
                    waiting, FailureKind.DEPENDS_ON_FAILED, f"needs {key}, which failed", commands
                )

    def _lose(self, event: WorkerLost, commands: list[Command]) -> None:
        """Only the pack at the head of the queue was running: the others are blameless."""
        packs = self._queues.pop(event.worker, deque())
        for position, pack in reversed([*enumerate(packs)]):  # so that they keep their order
            left = [key for key in pack if key not in event.done]
            for key in pack:
                if key in event.done:
                    self._complete(key, commands)
            for key in reversed(left):
                task = self._running(key, f"lost with {event.worker}: {event.how.value}")
                if position == 0 and event.how is not Loss.PREEMPTED:
                    self._blame(task, len(left) == 1, event, commands)
                if key in self._tasks:
                    self._make_ready(task, first=True)

    def _blame(self, task: _Task, alone: bool, event: WorkerLost, commands: list[Command]) -> None:
        task.kills += 1
        task.kills_alone += alone
        task.alone = task.alone or task.kills >= self.policy.company_kills
        if task.kills_alone >= self.policy.max_attempts:
            reason = (
                f"{task.kills_alone} workers in a row were lost while they ran this task alone "
                f"({event.how.value}: {event.cause})"
            )
            self._fail(task, FailureKind.KILLS_ITS_WORKER, reason, commands)

    def _finish(self, event: PackFinished, now: float, commands: list[Command]) -> None:
        queue = self._queues.get(event.worker)
        if not queue:
            return  # reported lost before its last word arrived: the store has been asked already
        pack = queue.popleft()
        self._learn(pack, event.seconds)
        answered = {result.key for result in event.results}
        for key in set(pack) - answered:
            raise IllegalTransition(f"{event.worker} returned a pack without {key}")
        for result in event.results:
            if not isinstance(result, Failed):
                self._store_answers()
                self._complete(result.key, commands)
                continue
            task = self._running(result.key, f"{result.kind.value}: {result.reason}")
            match result.kind:
                case FailureKind.STORE | FailureKind.DISK_FULL:
                    self._wait_for_store(task, result, now, commands)
                case FailureKind.OUT_OF_MEMORY if len(pack) > 1:
                    task.alone = True
                    self._make_ready(task, first=True)
                case _:
                    self._fail(task, result.kind, result.reason, commands, result.details)

    def _wait_for_store(
        self, task: _Task, result: Failed, now: float, commands: list[Command]
    ) -> None:
        if self._store_away_since is None:
            self._store_away_since = now
        if now - self._store_away_since > self.policy.patience:
            commands.append(GiveUp(result.reason))
        self._pause = min(max(2 * self._pause, self.policy.backoff), self.policy.max_backoff)
        task.status = Status.WAITING
        task.not_before = now + self._pause
        self._paused.append(task.open.key)

    def _store_answers(self) -> None:
        self._store_away_since = None
        self._pause = 0.0

    def _wake(self, now: float) -> None:
        still = []
        for key in self._paused:
            task = self._tasks[key]
            if task.not_before <= now:
                self._make_ready(task)
            else:
                still.append(key)
        self._paused = still

    def _running(self, key: str, event: str) -> _Task:
        task = self._tasks.get(key)
        if task is None:
            raise IllegalTransition(f"{key} is not open and yet: {event}")
        task.history.append(event)
        if task.status is not Status.RUNNING:
            self._illegal(task, event)
        return task

    def _illegal(self, task: _Task, what: str) -> None:
        raise IllegalTransition(
            f"{task.open.key} is {task.status.value} and cannot be {what}; "
            f"its history: {'; '.join(task.history) or 'nothing'}"
        )

    # Handing out.

    def _learn(self, pack: tuple[str, ...], seconds: float) -> None:
        kind = self._tasks[pack[0]].open.kind if pack[0] in self._tasks else ""
        each = seconds / len(pack)
        known = self._seconds_per_task.get(kind)
        self._seconds_per_task[kind] = each if known is None else 0.7 * known + 0.3 * each

    def _pack_size(self, kind: str) -> int:
        each = self._seconds_per_task.get(kind)
        together = 1
        if kind == OptimizePath.__name__:
            idle = sum(not queue for queue in self._queues.values()) or len(self._queues)
            share = -(-len(self._ready) // max(1, idle))
            together = min(self.policy.paths_at_once, share)
        if each is None:
            return max(1, together)
        fair = max(1, len(self._ready) // (2 * max(1, len(self._queues))))
        wanted = int(self.policy.pack_seconds / max(each, 1e-6))
        return max(1, together, min(wanted, fair, self.policy.max_pack))

    def _depth(self, kind: str) -> int:
        """Short packs are queued behind the running one, so that the worker never waits for us."""
        each = self._seconds_per_task.get(kind, float("inf"))
        return 2 if each * self._pack_size(kind) <= self.policy.pack_seconds else 1

    def _hand_out(self, commands: list[Command]) -> None:
        if self.stopping:
            return
        for depth in (1, 2):  # every idle worker first, then the queues
            for worker, queue in self._queues.items():
                if not self._ready:
                    return
                kind = self._tasks[self._ready[0]].open.kind
                if len(queue) < min(depth, self._depth(kind)):
                    pack = self._take(kind)
                    queue.append(pack)
                    commands.append(Run(worker, pack))

    def _take(self, kind: str) -> tuple[str, ...]:
        first = self._tasks[self._ready[0]]
        size = 1 if first.alone else self._pack_size(kind)
        pack: list[str] = []
        for key in islice(self._ready, size):
            task = self._tasks[key]
            if task.open.kind != kind or (task.alone and pack):
                break
            pack.append(key)
        for key in pack:
            self._ready.popleft()
            self._tasks[key].status = Status.RUNNING
        return tuple(pack)
