"""The states of a task in the scheduler, and the table of all changes between them."""

from dataclasses import dataclass, field
from enum import Enum

from orchestrator.scheduling.messages import Open


class Status(Enum):
    WAITING = "waiting"
    READY = "ready"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"


TRANSITIONS = frozenset(
    {
        (Status.WAITING, Status.READY),
        (Status.WAITING, Status.FAILED),
        (Status.READY, Status.RUNNING),
        (Status.RUNNING, Status.READY),
        (Status.RUNNING, Status.PAUSED),
        (Status.RUNNING, Status.DONE),
        (Status.RUNNING, Status.FAILED),
        (Status.PAUSED, Status.READY),
    }
)
"""Every allowed change of status; `DONE` and `FAILED` tasks are no longer kept."""


class IllegalTransition(Exception):
    """A bug in the scheduler or its driver; the message holds the task's history."""


@dataclass
class TaskState:
    """An open task: its status, the tasks that it waits for, and the workers that it killed or broke."""

    open: Open
    missing: set[str]
    status: Status = Status.WAITING
    kills: int = 0
    kills_alone: int = 0
    breaks: int = 0
    broke: set[str] = field(default_factory=set)
    """Workers whose set-up made it fail."""
    alone: bool = False
    workers: set[str] = field(default_factory=set)
    """Workers that hold it: one while it runs, two with a copy."""
    not_before: float = 0.0
    history: list[str] = field(default_factory=list)

    def move(self, status: Status) -> None:
        """Change the status.

        Raises:
            IllegalTransition: this change must not happen.
        """
        if (self.status, status) not in TRANSITIONS:
            raise self.illegal(status.value)
        self.status = status

    def illegal(self, what: str) -> IllegalTransition:
        """The error for something that must not happen to the task, with its history."""
        return IllegalTransition(
            f"{self.open.key} is {self.status.value} and cannot be {what}; "
            f"its history: {'; '.join(self.history) or 'nothing'}"
        )
