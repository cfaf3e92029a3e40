"""The result of a task: its record in the store, or a failure of a known kind."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class FailureKind(StrEnum):
    """Why a task ended without a result; the scheduler decides by kind what follows."""

    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out of memory"
    BAD_INPUT = "bad input"
    STORE = "store unreachable"
    DISK_FULL = "disk full"
    BUG = "bug"
    WORKER = "worker broken"
    """The set-up of the worker, not the task: a broken device, no memory, data missing on its node."""
    KILLS_ITS_WORKER = "kills its worker"
    DAMAGED = "damaged object"
    DEPENDS_ON_FAILED = "depends on a failed task"


class Segment(NamedTuple):
    """A file of records in the store: its name and its size in bytes."""

    name: str
    size: int


@dataclass(frozen=True)
class Done:
    """A task whose record is published; it counts once the driver has committed its segment.

    Attributes:
        key: of the task.
        figure: its loss, height or value, for displays.
        object: name of its object in the store, if it has one.
        segment: that holds its record; None until it is published.
    """

    key: str
    figure: float = float("nan")
    object: str | None = None
    segment: Segment | None = None


@dataclass(frozen=True)
class Failed:
    key: str
    kind: FailureKind
    reason: str
    details: str = ""


TaskResult = Done | Failed
