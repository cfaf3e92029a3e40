"""What a task ends with: its record in the store, or a failure of a known kind."""

from dataclasses import dataclass
from enum import StrEnum


class FailureKind(StrEnum):
    """Why a task ended without a result; what is done about it is decided by kind."""

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


@dataclass(frozen=True)
class Done:
    """A task whose record is in the store. `figure` (its loss or height) is for displays only."""

    key: str
    figure: float = float("nan")


@dataclass(frozen=True)
class Failed:
    key: str
    kind: FailureKind
    reason: str
    details: str = ""


TaskResult = Done | Failed
