"""The common protocol of tasks: begin at the newest checkpoint, advance step by step, end with a record.

A task that is interrupted, or whose worker is killed, continues from its newest readable checkpoint. On a CPU
its result has the same bits as that of a task that was never interrupted.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar

from workers.execution.progress import Interrupted, TaskProgress
from workers.problems.loaded_problem import LoadedProblem
from workers.storage.run_store import Store
from workers.storage.schema import ResultRecord

State = TypeVar("State")


@dataclass(frozen=True)
class TaskContext:
    """What a task gets from its worker: the problem, the store and the progress.

    Attributes:
        loaded: the problem of the task.
        store: of the run.
        progress: the task reports its progress to it.
        keep_points: whether the points of paths are published.
    """

    loaded: LoadedProblem
    store: Store
    progress: TaskProgress
    keep_points: bool = True


class TaskRun(Protocol[State]):
    """One task whose state can be stored as a checkpoint."""

    @property
    def key(self) -> str:
        """The key of the task."""

    def begin(self) -> State:
        """The state of the newest readable checkpoint, or the state before the first step."""

    def is_finished(self, state: State) -> bool:
        """Whether all steps are done, so that only `end` remains to be called."""

    def advance(self, state: State) -> State:
        """The state after the next step, for instance one epoch.

        A task can be interrupted between two steps, and within a step that evaluates an `InterruptibleLoss`.

        Raises:
            Interrupted: the worker was asked to stop within this step; the task continues from `state`.
        """

    def keep(self, state: State, *, due: bool) -> None:
        """Publish a checkpoint if `due` is true and the task is not finished.

        A state from which another task continues is published in any case.
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

    Checkpoints are published at intervals of time (`TaskProgress.checkpoint_is_due`), so the number of
    requests to the store does not depend on how long a step takes.

    Raises:
        TaskFailure: there is no result.
        Damaged: an object that the task reads is missing or damaged.
        Interrupted: the worker was asked to stop; the last checkpoint is published.
    """
    state = run.begin()
    while not run.is_finished(state):
        try:
            state = run.advance(state)
        except Interrupted:
            run.keep(state, due=True)
            raise
        run.keep(state, due=progress.checkpoint_is_due())
        progress.share(run.key, run.share(state))
    return run.end(state)
