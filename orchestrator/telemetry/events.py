"""The events of a run, as frozen dataclasses.

The driver emits events; displays, logs and metrics observe them. Events only report: no observer can change
what the driver does. In all events of a task, `key` is its key, `what` its title for people, and `kind` is
`minimum`, `path`, `simplex` or `saddle`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from workers.tasks.results import FailureKind


@dataclass(frozen=True)
class RunStarted:
    """The driver has counted the tasks, and those that are complete; sent again when the numbers change."""

    run: str
    minima: int
    minima_done: int
    pairs: int
    pairs_done: int
    simplices: int = 0
    simplices_done: int = 0
    saddles: int = 0
    saddles_done: int = 0
    adaptive: bool = False
    """Whether the pair rule depends on results; then `pairs` is an upper bound, and far fewer may be needed.

    In every run `saddles` is an upper bound until the paths are complete."""


@dataclass(frozen=True)
class WorkerJoined:
    """A worker is ready for tasks; `node` is Ray's identifier of its machine."""

    worker: str
    node: str = ""


@dataclass(frozen=True)
class WorkerLost:
    """A worker was lost; `how` is a value of `orchestrator.scheduling.messages.Loss`."""

    worker: str
    how: str
    cause: str


@dataclass(frozen=True)
class WorkerReplaced:
    """A worker was stopped, because its set-up is broken or another worker has completed its task.

    `drained` is true if it is not started again.
    """

    worker: str
    reason: str
    drained: bool = False


@dataclass(frozen=True)
class WorkerRetired:
    """A worker was stopped because no task was left for it."""

    worker: str


@dataclass(frozen=True)
class TaskStarted:
    """A task was sent to a worker.

    `attempt` counts from 1; it grows each time the task is sent again, for example after a worker was lost or
    the store was unreachable.
    """

    key: str
    what: str
    worker: str
    node: str = ""
    attempt: int = 1
    kind: str = ""


@dataclass(frozen=True)
class TaskCompleted:
    """The record of a task is committed.

    `value` is the loss of a minimum or saddle, the height of a path, or the value of a simplex.
    """

    key: str
    what: str
    kind: str
    value: float
    worker: str = ""
    node: str = ""
    attempt: int = 1


@dataclass(frozen=True)
class TaskFailed:
    """A task ended without a result and is not tried again in this run."""

    key: str
    what: str
    kind: str
    failure: FailureKind
    reason: str
    worker: str = ""
    node: str = ""
    attempt: int = 1


@dataclass(frozen=True)
class TaskSlow:
    """A task has made no progress for `seconds`; its worker still answers."""

    key: str
    what: str
    worker: str
    seconds: float


@dataclass(frozen=True)
class Waiting:
    """The run waits, for example for the store; `reason` is one sentence."""

    reason: str


@dataclass(frozen=True)
class Progress:
    """Sent about once per second: numbers of running tasks and workers, and the progress of tasks."""

    running: int
    workers: int
    shares: Mapping[str, float] = field(default_factory=dict)
    """Sum of the completed shares of the running tasks, by kind."""


@dataclass(frozen=True)
class RunFinished:
    """The driver has ended; `failed` is the number of failed tasks."""

    complete: bool
    failed: int
    interrupted: bool


ObservedEvent = (
    RunStarted
    | WorkerJoined
    | WorkerLost
    | WorkerReplaced
    | WorkerRetired
    | TaskStarted
    | TaskCompleted
    | TaskFailed
    | TaskSlow
    | Waiting
    | Progress
    | RunFinished
)
Observer = Callable[[ObservedEvent], None]
