"""The events that the scheduler handles, and the commands that it returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from workers.tasks.results import Failed, FailureKind, TaskResult


class Loss(Enum):
    """How a worker was lost. Its tasks may be the cause unless its node left."""

    CRASHED = "its process ended"
    PREEMPTED = "its node left"
    STALLED = "it made no progress"


NOT_LASTING = frozenset({FailureKind.DEPENDS_ON_FAILED, FailureKind.DAMAGED})
"""Kinds of failures that the next `toscore run` repairs by itself, so they are not recorded for `toscore
retry`."""


# Events.


@dataclass(frozen=True)
class OpenTask:
    """What the scheduler knows of a task: its key, the keys of the tasks that it needs, and its kind."""

    key: str
    depends_on: tuple[str, ...] = ()
    kind: str = ""


@dataclass(frozen=True)
class Added:
    """New tasks. A dependency that is neither open nor failed counts as complete."""

    tasks: Sequence[OpenTask]


@dataclass(frozen=True)
class WorkerJoined:
    """A worker is ready; `node` names its machine, for logs only."""

    worker: str
    node: str = ""


@dataclass(frozen=True)
class WorkerLost:
    """A worker was lost; `done` has the keys of its tasks whose records it had published before."""

    worker: str
    how: Loss
    cause: str
    done: frozenset[str] = frozenset()


@dataclass(frozen=True)
class PackFinished:
    """A worker has returned the results of its oldest pack, which took `seconds`."""

    worker: str
    results: Sequence[TaskResult]
    seconds: float


@dataclass(frozen=True)
class Tick:
    """One iteration of the driver's loop; the time is an argument of `Scheduler.handle`."""


@dataclass(frozen=True)
class StopRequested:
    """A stop was requested: no more tasks are handed out, and running packs finish."""


Event = Added | WorkerJoined | WorkerLost | PackFinished | Tick | StopRequested


# Commands.


@dataclass(frozen=True)
class Run:
    """Send a pack of tasks to a worker."""

    worker: str
    pack: tuple[str, ...]


@dataclass(frozen=True)
class Fail:
    """A task has failed. The driver records the failure for `toscore retry` if it is `lasting`."""

    failure: Failed
    lasting: bool = True


@dataclass(frozen=True)
class Complete:
    """A task is complete."""

    key: str


@dataclass(frozen=True)
class Replace:
    """Stop a worker whose set-up is broken, and start it again unless `drain` is set."""

    worker: str
    reason: str
    drain: bool = False


@dataclass(frozen=True)
class Retire:
    """Stop a worker that has been idle for `Policy.idle_seconds`, so that its machine can be released."""

    worker: str


@dataclass(frozen=True)
class GiveUp:
    """End the run: no task can succeed for now.

    `curable` is true if the same command may succeed later without a change by the user, for example because
    the store did not answer.
    """

    reason: str
    curable: bool = True


Command = Run | Fail | Complete | Replace | Retire | GiveUp
