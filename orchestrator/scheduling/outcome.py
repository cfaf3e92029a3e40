"""The ways in which a driver can end, and the kinds of stop requests."""

from dataclasses import dataclass
from enum import Enum


class Ending(Enum):
    """How a driver ended; `orchestrator.endings.EXIT` maps each value to an exit code."""

    COMPLETE = "complete"
    FAILED = "some tasks failed"
    INTERRUPTED = "interrupted"
    STOPPED = "stopped on request"
    GAVE_UP = "the store was unreachable"
    SAME_FAILURE = "all tasks failed for the same reason"


@dataclass(frozen=True)
class Outcome:
    """How a driver ended, and the number of failed tasks.

    Attributes:
        reason: if it gave up, one sentence that says why; if it was interrupted, the name of the signal.
    """

    ending: Ending
    failed: int = 0
    reason: str = ""


class Stop(Enum):
    """A stop request, from `toscore stop` or a signal."""

    NO = 0
    GRACEFUL = 1
    """Finish the running tasks, then end."""
    NOW = 2
    """End at once; the next driver repeats the work since the last checkpoints."""
