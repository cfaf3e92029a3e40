"""The entry point of workers: `Worker.run` executes a pack of tasks and returns a result for each.

Between packs a `Worker` keeps what is expensive to create: the data on its device, the network and the
compiled evaluation. It makes no decision about which tasks run, and keeps no state of a task: checkpoints,
objects and records are in the store.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from workers.execution.device_strategies import (
    ChosenFor,
    evaluation_of_device,
    is_other_device,
)
from workers.execution.failures import failure_of
from workers.execution.path_pack import optimize_paths_together
from workers.execution.progress import CHECKPOINT_SECONDS, Interrupted, TaskProgress
from workers.execution.task_kinds import TASK_KINDS
from workers.execution.task_run import TaskContext
from workers.problems.data_sets import load_dataset
from workers.problems.dataset import Dataset
from workers.problems.evaluation import Evaluation, device_name, prepare_process
from workers.problems.loaded_problem import LoadedProblem, load_problem
from workers.problems.reproducibility import check_identity
from workers.problems.user_code import add_code_folder
from workers.storage.objects import NotWritable, StoreFull, StoreUnreachable
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store
from workers.storage.schema import ResultRecord
from workers.tasks.path_tasks import OptimizePath
from workers.tasks.problem import Problem
from workers.tasks.results import Done, TaskResult
from workers.tasks.specs import DataSpec
from workers.tasks.task import Task

FLUSH_SECONDS = 5.0
"""Time in seconds after which finished records are published together, checked whenever a task ends: one
request to the store for many short tasks."""


@dataclass(frozen=True)
class WorkerContext:
    """The settings that are the same for all workers of a run."""

    location: str
    """The run's folder or URL."""
    lease_term: int
    """The lease term of the driver. It is part of the name of every segment, so that segments which are
    published after the term has ended do not count."""
    evaluation: Evaluation
    """The device, the strategy and the other settings that decide the last bits of results."""
    chosen_for: ChosenFor | None = None
    """What `evaluation` was chosen for. A worker on a device of another kind uses the settings for that kind;
    if None, every worker uses `evaluation`."""
    keep_paths: bool = True
    """Whether the points of paths are published."""
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    """Time between two checkpoints of a task."""
    code_folders: tuple[str, ...] = ()
    """Folders that are searched for the user's modules, after everything that is installed."""


class Worker:
    """Runs packs of tasks: up to `Evaluation.paths_at_once` paths together, all other tasks one by one."""

    def __init__(
        self, context: WorkerContext, name: str, stopping: Callable[[], bool] = lambda: False
    ) -> None:
        """Args:
        context: settings of the run.
        name: of this worker, for its records and segments.
        stopping: returns whether this worker was asked to stop.
        """
        prepare_process(context.evaluation)
        for folder in context.code_folders:
            add_code_folder(Path(folder))
        self._context = context
        self._name = name
        self._evaluation = context.evaluation
        self._is_other_device = is_other_device(context.chosen_for, context.evaluation)
        self.load_data: Callable[[DataSpec], Dataset] = load_dataset
        """Loads the data of a problem. A caller that has the data already may set another function."""
        self._progress = TaskProgress(stopping, context.checkpoint_seconds)
        self._store = Store(open_objects(context.location))
        self._problem = lru_cache(maxsize=2)(self._load)
        # Tasks that have ended and whose records are not published yet. Their checkpoints are deleted only
        # after publication, so that no work is lost if the worker is killed before.
        self._ended: dict[str, Task] = {}
        self._busy_since: float | None = None
        self._idle_since = time.monotonic()
        self._idle = 0.0

    def _load(self, problem: Problem) -> LoadedProblem:
        """Load a problem, and check that its data and code are those that the run was planned with.

        Raises:
            BadReference: the data or the code have changed, or do not fit together.
        """
        data = self.load_data(problem.data)
        check_identity(problem, data)
        loaded = load_problem(problem, self._evaluation, data)
        if self._is_other_device and self._context.chosen_for is not None:
            settings = self._context.chosen_for.settings
            self._evaluation = evaluation_of_device(problem, loaded, settings, self._store)
            self._is_other_device = False
            loaded = loaded.moved(self._evaluation)
        return loaded

    def _task_context(self, problem: Problem) -> TaskContext:
        return TaskContext(
            self._problem(problem), self._store, self._progress, self._context.keep_paths
        )

    def progress(self) -> Mapping[str, float]:
        """The share done (0 to 1) of each running task, by key: for displays, and to detect tasks that
        hang."""
        return self._progress.shares()

    def counters(self) -> Mapping[str, float]:
        """Totals since the worker started: epochs of paths, bytes of checkpoints, seconds without a pack."""
        waiting = time.monotonic() - self._idle_since if self._busy_since is None else 0.0
        return {
            "path_epochs": self._progress.path_epochs,
            "checkpoint_bytes": self._store.checkpoint_bytes,
            "idle_seconds": self._idle + waiting,
        }

    def run(self, pack: Sequence[Task]) -> list[TaskResult]:
        """Execute a pack of tasks.

        Args:
            pack: tasks whose dependencies are complete in the store, with the names of their objects.

        Returns:
            One result for each task, in order. `Done` means that the record is published, in `Done.segment`.

        Raises:
            Interrupted: the worker was asked to stop; finished records and the last checkpoint are published.
        """
        results: dict[str, TaskResult] = {}
        records: list[ResultRecord] = []
        flushed = time.monotonic()
        self._idle += flushed - self._idle_since
        self._busy_since = flushed
        try:
            for result in self._results(pack, records):
                results[result.key] = result
                if records and time.monotonic() - flushed > FLUSH_SECONDS:
                    self._publish(records, results)
                    flushed = time.monotonic()
        finally:
            self._publish(records, results)
            self._idle_since, self._busy_since = time.monotonic(), None
        return [results[task.key] for task in pack]

    def _publish(self, records: list[ResultRecord], results: dict[str, TaskResult]) -> None:
        """Publish one segment for each kind of record; if that fails, the tasks of its records have
        failed."""
        by_kind: dict[type[ResultRecord], list[ResultRecord]] = {}
        for record in records:
            by_kind.setdefault(type(record), []).append(record)
        for group in by_kind.values():
            try:
                segment = self._store.publish_segment(
                    group, term=self._context.lease_term, worker=self._name
                )
            except Exception as error:
                # The store refuses access, is full or does not answer: nothing is published.
                for record in group:
                    results[record.key] = failure_of(record.key, error)
                continue
            for record in group:
                done = Done(record.key, record.figure, record.object, segment)
                results[record.key] = done
                # A checkpoint that cannot be deleted now is deleted at the end of the run.
                with contextlib.suppress(StoreUnreachable, StoreFull, NotWritable):
                    self._drop_checkpoints(self._ended[record.key])
        records.clear()
        self._ended.clear()

    def _drop_checkpoints(self, task: Task) -> None:
        """Delete the checkpoints of a finished task from which no other task will continue."""
        self._store.drop_checkpoints(task.key)
        if isinstance(task, OptimizePath) and not task.goes_on:
            self._store.drop_checkpoints(task.lineage)

    def _results(self, pack: Sequence[Task], records: list[ResultRecord]) -> Iterator[TaskResult]:
        """Execute a pack. The record of a task is appended to `records` before its result is yielded."""
        if self._is_other_device:  # the size of a group depends on the memory of the device
            with contextlib.suppress(Exception):  # the task will report it
                self._problem(pack[0].problem)
        for group in _groups(pack, self._evaluation.paths_at_once):
            paths = [task for task in group if isinstance(task, OptimizePath)]
            if len(paths) > 1:
                yield from self._run_together(paths, records)
            else:
                yield from (self._run_one(task, records) for task in group)

    def _run_one(self, task: Task, records: list[ResultRecord]) -> TaskResult:
        started = time.monotonic()
        self._progress.start(task.key)
        try:
            context = self._task_context(task.problem)
        except Exception as error:
            self._progress.stop()
            return failure_of(task.key, error, loading=True)
        try:
            record = TASK_KINDS[type(task)](task, context)
        except Interrupted:
            raise
        except Exception as error:
            return failure_of(task.key, error)
        finally:
            self._progress.stop()
        return self._done(task, record, time.monotonic() - started, records)

    def _run_together(
        self, tasks: Sequence[OptimizePath], records: list[ResultRecord]
    ) -> Iterator[TaskResult]:
        """Optimise paths of one problem with equal settings together.

        The record of each of p paths has 1/p of the time from the start until that path ended, so the sum
        over the records is about the time that the device was used.
        """
        started = time.monotonic()
        try:
            context = self._task_context(tasks[0].problem)
        except Exception as error:
            yield from (failure_of(task.key, error, loading=True) for task in tasks)
            return
        try:
            for task, outcome in optimize_paths_together(tasks, context):
                if isinstance(outcome, Exception):
                    yield failure_of(task.key, outcome)
                else:
                    seconds = (time.monotonic() - started) / len(tasks)
                    yield self._done(task, outcome, seconds, records)
        finally:
            self._progress.stop()

    def _done(
        self, task: Task, record: ResultRecord, seconds: float, records: list[ResultRecord]
    ) -> Done:
        self._ended[task.key] = task
        records.append(self._signed(record, seconds))
        return Done(record.key, record.figure, record.object)

    def _signed(self, record: ResultRecord, seconds: float) -> ResultRecord:
        """The record with the name of its worker, the device, the time of completion and the duration."""
        return replace(
            record,
            worker=self._name,
            lease_term=self._context.lease_term,
            seconds=seconds,
            finished_at=datetime.now(UTC),
            device=device_name(self._evaluation.device),
            strategy=self._evaluation.strategy,
        )


def _groups(pack: Sequence[Task], paths_at_once: int) -> Iterator[list[Task]]:
    """Split a pack into groups that run together: at most `paths_at_once` paths of one problem with equal
    settings, and every other task alone."""
    groups: dict[object, list[Task]] = {}
    for task in pack:
        alike: object = task.key
        if isinstance(task, OptimizePath) and paths_at_once > 1:
            alike = task.problem, task.settings
        groups.setdefault(alike, []).append(task)
    for group in groups.values():
        size = max(1, paths_at_once)
        yield from (group[first : first + size] for first in range(0, len(group), size))
