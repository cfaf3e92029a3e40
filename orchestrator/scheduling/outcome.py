"""How a driver ends, and how it is asked to."""

from dataclasses import dataclass
from enum import Enum


class Ending(Enum):
    """How a driver ended; `endings.EXIT` gives each an exit code."""

    COMPLETE = "complete"
    FAILED = "some tasks failed"
    INTERRUPTED = "interrupted"
    STOPPED = "stopped on request"
    GAVE_UP = "the store was unreachable"
    SAME_FAILURE = "all tasks failed for the same reason"


@dataclass(frozen=True)
class Outcome:
    """How a driver ended; `reason` is a sentence where it gave up."""

    ending: Ending
    failed: int = 0
    reason: str = ""


class Stop(Enum):
    """The request of a user or a signal."""

    NO = 0
    GRACEFUL = 1
    """Finish the running tasks, then end."""
    NOW = 2
    """End at once; work since the last checkpoints is done again later."""
