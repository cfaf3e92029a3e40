"""The states of a task in the scheduler, and the table of allowed transitions."""

from dataclasses import dataclass, field
from enum import Enum

from orchestrator.scheduling.messages import OpenTask


class Status(Enum):
    """The state of a task."""

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
"""Every allowed transition; tasks in the states `DONE` and `FAILED` are removed from the table."""


class IllegalTransition(Exception):
    """A bug in the scheduler or its driver; the message holds the task's history."""


@dataclass
class TaskState:
    """An open task: its status, the tasks that it waits for, and the workers that failed while they ran it.

    Attributes:
        open: the task as it was added.
        missing: keys of the dependencies that are not complete.
        kills: workers lost while they ran the task.
        kills_alone: those of them that ran no other task.
        breaks: workers that had completed other tasks and whose set-up broke while they ran this one.
        alone: whether the task must be the only one in its pack.
        not_before: time in seconds until which a paused task waits.
        history: the events about the task, for error messages.
    """

    open: OpenTask
    missing: set[str]
    status: Status = Status.WAITING
    kills: int = 0
    kills_alone: int = 0
    breaks: int = 0
    broke: set[str] = field(default_factory=set)
    """Workers whose set-up made the task fail."""
    alone: bool = False
    workers: set[str] = field(default_factory=set)
    """Workers that hold the task: one while it runs, two if it has a copy."""
    not_before: float = 0.0
    history: list[str] = field(default_factory=list)

    def move(self, status: Status) -> None:
        """Change the status.

        Raises:
            IllegalTransition: `TRANSITIONS` does not allow the change.
        """
        if (self.status, status) not in TRANSITIONS:
            raise self.illegal(status.value)
        self.status = status

    def illegal(self, what: str) -> IllegalTransition:
        """The exception for a forbidden change of the task; its message holds the history."""
        return IllegalTransition(
            f"{self.open.key} is {self.status.value} and cannot be {what}; "
            f"its history: {'; '.join(self.history) or 'nothing'}"
        )
