"""The events that the scheduler handles, and the commands with which it answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from workers.tasks.results import Failed, FailureKind, TaskResult


class Loss(Enum):
    """How a worker was lost, which decides whether its tasks may be the cause."""

    CRASHED = "its process died"
    PREEMPTED = "its node left"
    STALLED = "it made no progress"


NOT_LASTING = frozenset({FailureKind.DEPENDS_ON_FAILED, FailureKind.DAMAGED})
"""Failures that the next `run` repairs by itself, so that nothing is recorded for `retry`."""


# Events.


@dataclass(frozen=True)
class Open:
    """A task as the scheduler sees it: its key, the keys that it needs, and the kind of its work."""

    key: str
    depends_on: tuple[str, ...] = ()
    kind: str = ""


@dataclass(frozen=True)
class Added:
    """Tasks to be done. Dependencies that are neither open nor failed count as complete."""

    tasks: Sequence[Open]


@dataclass(frozen=True)
class WorkerJoined:
    """A worker is ready; `node` is where it runs, for logs."""

    worker: str
    node: str = ""


@dataclass(frozen=True)
class WorkerLost:
    """A worker was lost; `done` are those of its tasks whose records it had published before."""

    worker: str
    how: Loss
    cause: str
    done: frozenset[str] = frozenset()


@dataclass(frozen=True)
class PackFinished:
    """A worker returns the results of its oldest pack, which took so many seconds."""

    worker: str
    results: Sequence[TaskResult]
    seconds: float


@dataclass(frozen=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True)
class StopRequested:
    """No more tasks are handed out; running packs may finish."""


Event = Added | WorkerJoined | WorkerLost | PackFinished | Tick | StopRequested


# Commands.


@dataclass(frozen=True)
class Run:
    """Send a pack of tasks to a worker."""

    worker: str
    pack: tuple[str, ...]


@dataclass(frozen=True)
class Fail:
    """A task has failed. Lasting failures are recorded and wait for `retry`; the others are not."""

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
    """Stop a worker that has had nothing to do for a while, so that its machine can be given back."""

    worker: str


@dataclass(frozen=True)
class GiveUp:
    """End the run: no task can succeed for now.

    `curable` if the same command may succeed later without a change by the user (the store did not answer).
    """

    reason: str
    curable: bool = True


Command = Run | Fail | Complete | Replace | Retire | GiveUp
