"""What happens during a run, as frozen events.

The driver emits events; displays, logs and metrics observe them. An event only reports: no observer can
change what the driver does. `kind` of a task is `minimum`, `path`, `simplex` or
`saddle`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from workers.tasks.results import FailureKind


@dataclass(frozen=True)
class RunStarted:
    """The driver has read the store and knows how much is left."""

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
    """Whether `pairs` is an upper bound: a rule that looks at results may need far fewer.

    `saddles` is an upper bound until the paths are complete."""


@dataclass(frozen=True)
class WorkerJoined:
    """A worker is ready for tasks; `node` is Ray's identifier of its machine."""

    worker: str
    node: str = ""


@dataclass(frozen=True)
class WorkerLost:
    """A worker has gone; `how` is one of `scheduling.messages.Loss`."""

    worker: str
    how: str
    cause: str


@dataclass(frozen=True)
class WorkerReplaced:
    """A worker whose set-up is broken was stopped; `drained` if it is not started again."""

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

    `attempt` counts from 1 and grows when a worker was lost or the store was unreachable.
    """

    key: str
    what: str
    worker: str
    node: str = ""
    attempt: int = 1
    kind: str = ""


@dataclass(frozen=True)
class TaskCompleted:
    """The record of a task is published; `value` is its loss, height or value."""

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
    """A task made no progress for so many seconds, on a worker that answers."""

    key: str
    what: str
    worker: str
    seconds: float


@dataclass(frozen=True)
class Waiting:
    """Nothing can be done for now; `reason` is a sentence."""

    reason: str


@dataclass(frozen=True)
class Progress:
    """Sent about once a second: the number of running tasks and how much of them is done."""

    running: int
    workers: int
    shares: Mapping[str, float] = field(default_factory=dict)
    """Sum of the completed shares of the running tasks, by kind."""


@dataclass(frozen=True)
class RunFinished:
    """The driver has stopped."""

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
