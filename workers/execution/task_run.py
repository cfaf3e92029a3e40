"""The common shape of tasks: from the last checkpoint, step by step, to a record.

A task that is interrupted, or whose worker is killed, continues from its newest readable checkpoint and
gives the same bits as one that was never interrupted.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar

from workers.execution.progress import TaskProgress
from workers.problems.loaded_problem import Loaded
from workers.storage.run_store import Store
from workers.storage.schema import ResultRecord

State = TypeVar("State")


@dataclass(frozen=True)
class Site:
    """The problem, the store and the progress of a task.

    Attributes:
        loaded: its problem.
        store: of the run.
        progress: receives the share of the task that is done.
        keep_points: whether the points of paths are published.
    """

    loaded: Loaded
    store: Store
    progress: TaskProgress
    keep_points: bool = True


class TaskRun(Protocol[State]):
    """One task with resumable state."""

    @property
    def key(self) -> str:
        """Of the task."""

    def begin(self) -> State:
        """The state of the newest readable checkpoint, or the state before the first step."""

    def is_finished(self, state: State) -> bool:
        """Whether only the record remains to be made."""

    def advance(self, state: State) -> State:
        """The state at the next point where the task can be interrupted: an epoch or a few seconds later."""

    def keep(self, state: State, *, due: bool) -> None:
        """Publish a checkpoint if one is due, unless the task is finished.

        A state that another task continues from is published in any case.
        """

    def share(self, state: State) -> float:
        """The share of the work that is done, from 0 to 1."""

    def end(self, state: State) -> ResultRecord:
        """Publish the object of the task, and return its record.

        Raises:
            TaskFailure: there is no result.
        """


def run_task(run: TaskRun[State], progress: TaskProgress) -> ResultRecord:
    """Run a task from its newest checkpoint to its record.

    Checkpoints are published by time (`TaskProgress.checkpoint_is_due`): the number of requests to the store
    does not depend on how long an epoch takes.

    Raises:
        TaskFailure: there is no result.
        Damaged: an object that it reads is missing or damaged.
        Interrupted: asked to stop; the state is kept.
    """
    state = run.begin()
    while not run.is_finished(state):
        state = run.advance(state)
        run.keep(state, due=progress.checkpoint_is_due())
        progress.share(run.key, run.share(state))
    return run.end(state)
