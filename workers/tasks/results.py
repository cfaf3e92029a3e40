"""The result of a task: its record in the store, or a failure of a known kind."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class FailureKind(StrEnum):
    """Why a task ended without a result. The scheduler decides by kind whether the task is tried again."""

    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out of memory"
    BAD_INPUT = "bad input"
    STORE = "store unreachable"
    DISK_FULL = "disk full"
    BUG = "bug"
    WORKER = "worker broken"
    """The worker is the cause, not the task: a broken device, no memory, or data missing on its node."""
    KILLS_ITS_WORKER = "kills its worker"
    DAMAGED = "damaged object"
    DEPENDS_ON_FAILED = "depends on a failed task"


class Segment(NamedTuple):
    """A file of records in the store.

    Attributes:
        name: of the object.
        size: in bytes.
    """

    name: str
    size: int


@dataclass(frozen=True)
class Done:
    """The outcome of a task that has a result. The result counts once the driver has committed its segment.

    Attributes:
        key: of the task.
        figure: loss of a minimum or a saddle, height of a path or value of a simplex, for displays.
        object: name of the object with its tensors in the store; None for a task without one.
        segment: the segment that holds its record; None until the record is published.
    """

    key: str
    figure: float = float("nan")
    object: str | None = None
    segment: Segment | None = None


@dataclass(frozen=True)
class Failed:
    """The outcome of a task without a result.

    Attributes:
        key: of the task.
        kind: of the failure.
        reason: one sentence for the user.
        details: the traceback of an unexpected error; empty for others.
    """

    key: str
    kind: FailureKind
    reason: str
    details: str = ""


TaskResult = Done | Failed
