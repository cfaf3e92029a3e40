"""The only door into the workers: a pack of tasks in, their results out, everything else in the store.

`Worker` keeps what is dear to make again (the data on its device, the network, the compiled
evaluation) between the packs that it is given; it decides nothing and remembers no task.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache

from workers.execution.failures import failure_of
from workers.execution.minimum_task import (
    descend_minimum_task,
    import_minimum_task,
    train_minimum_task,
)
from workers.execution.path_pack import optimize_paths_together
from workers.execution.path_task import optimize_path_task
from workers.execution.progress import Interrupted, Telling
from workers.execution.simplex_task import optimize_simplex_task
from workers.problems.data_sets import load_dataset
from workers.problems.evaluation import Evaluation, prepare
from workers.problems.loaded_problem import Loaded, load_problem
from workers.problems.reproducibility import check_identity
from workers.storage.objects import NotWritable, StoreFull, StoreUnreachable
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store
from workers.storage.schema import MinimumRecord, PairRecord, Record, SimplexRecord
from workers.tasks.results import Done, TaskResult
from workers.tasks.tasks import (
    DescendMinimum,
    ImportMinimum,
    OptimizePath,
    OptimizeSimplex,
    Problem,
    Task,
    TrainMinimum,
    path_family,
)

FLUSH_SECONDS = 5.0
"""Finished records wait at most this long for company before they are published."""


@dataclass(frozen=True)
class WorkerContext:
    """What every worker of a run is told once."""

    location: str
    """The run's folder or URL."""
    lease_term: int
    """Written into every segment: a driver that lost its lease cannot add to the run."""
    evaluation: Evaluation
    """How the arithmetic is carried out; the same for all workers, so that bits do not differ."""
    keep_paths: bool = True


class Worker:
    """Runs packs of tasks: paths of a kind together where the evaluation says so, all else one by one."""

    def __init__(
        self, context: WorkerContext, name: str, stopping: Callable[[], bool] = lambda: False
    ) -> None:
        prepare(context.evaluation)
        self._context = context
        self._name = name
        self._telling = Telling(stopping)
        self._store = Store(open_objects(context.location))
        self._problem = lru_cache(maxsize=2)(self._load)
        # Tasks that ended and whose record is not published yet: until then their checkpoints stay, so
        # that a worker that dies takes no path along that took hours and waited for company.
        self._ended: dict[str, Task] = {}
        self._busy_since: float | None = None
        self._idle_since = time.monotonic()
        self._idle = 0.0

    def _load(self, problem: Problem) -> Loaded:
        """Load a problem, and see that its data and code are those that the run was planned with.

        Raises:
            BadReference: they are not, or do not fit together.
        """
        data = load_dataset(problem.data)
        check_identity(problem, data)
        return load_problem(problem, self._context.evaluation, data)

    def progress(self) -> Mapping[str, float]:
        """Share done of the running task, for displays and for telling slow from hung."""
        return self._telling.progress()

    def counters(self) -> Mapping[str, float]:
        """What only grows: epochs of paths, bytes of checkpoints, seconds without work."""
        waiting = time.monotonic() - self._idle_since if self._busy_since is None else 0.0
        return {
            "path_epochs": self._telling.path_epochs,
            "checkpoint_bytes": self._store.checkpoint_bytes,
            "idle_seconds": self._idle + waiting,
        }

    def run(self, pack: Sequence[Task]) -> list[TaskResult]:
        """Carry out a pack.

        Args:
            pack: tasks whose dependencies are complete in the store.

        Returns:
            One result a task, in order. `Done` means that its record is published.

        Raises:
            Interrupted: asked to stop; finished records and the last checkpoint are published.
        """
        results: dict[str, TaskResult] = {}
        records: list[Record] = []
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

    def _publish(self, records: list[Record], results: dict[str, TaskResult]) -> None:
        """One segment a kind. What cannot be published is not done, whatever was computed."""
        by_kind: dict[type[Record], list[Record]] = {}
        for record in records:
            by_kind.setdefault(type(record), []).append(record)
        for group in by_kind.values():
            try:
                self._store.publish_records(group, epoch=self._context.lease_term)
            except Exception as error:  # refused, full, unreachable: nobody's record is there
                for record in group:
                    results[record.key] = failure_of(record.key, error)
                continue
            for record in group:
                # Otherwise they are deleted at the end of the run.
                with contextlib.suppress(StoreUnreachable, StoreFull, NotWritable):
                    self._let_go(self._ended[record.key])
        records.clear()
        self._ended.clear()

    def _let_go(self, task: Task) -> None:
        """Delete the checkpoints that nobody will go on from."""
        self._store.drop_checkpoints(task.key)
        if isinstance(task, OptimizePath) and not task.goes_on:
            self._store.drop_checkpoints(task.lineage)

    def _results(self, pack: Sequence[Task], records: list[Record]) -> Iterator[TaskResult]:
        """Carry out a pack; finished records are added to `records` before their result is told."""
        for group in _groups(pack, self._context.evaluation.paths_at_once):
            paths = [task for task in group if isinstance(task, OptimizePath)]
            if len(paths) > 1:
                yield from self._run_together(paths, records)
            else:
                yield from (self._run_one(task, records) for task in group)

    def _run_one(self, task: Task, records: list[Record]) -> TaskResult:
        started = time.monotonic()
        self._telling.start(task.key)
        try:
            loaded = self._problem(task.problem)
        except Exception as error:
            self._telling.stop()
            return failure_of(task.key, error, loading=True)
        try:
            match task:
                case TrainMinimum():
                    record: Record = train_minimum_task(task, loaded, self._store, self._telling)
                case DescendMinimum():
                    record = descend_minimum_task(task, loaded, self._store, self._telling)
                case ImportMinimum():
                    record = import_minimum_task(task, loaded, self._store)
                case OptimizePath():
                    record = optimize_path_task(
                        task,
                        loaded,
                        self._store,
                        self._telling,
                        keep_points=self._context.keep_paths,
                    )
                case OptimizeSimplex():
                    record = optimize_simplex_task(task, loaded, self._store, self._telling)
        except Interrupted:
            raise
        except Exception as error:
            return failure_of(task.key, error)
        finally:
            self._telling.stop()
        return self._done(task, record, time.monotonic() - started, records)

    def _run_together(
        self, tasks: Sequence[OptimizePath], records: list[Record]
    ) -> Iterator[TaskResult]:
        """Paths of one problem with equal settings, in lockstep.

        The record of each says a p-th of the time until it was there: together about that of the device.
        """
        started = time.monotonic()
        try:
            loaded = self._problem(tasks[0].problem)
        except Exception as error:
            yield from (failure_of(task.key, error, loading=True) for task in tasks)
            return
        try:
            for task, outcome in optimize_paths_together(
                tasks, loaded, self._store, self._telling, keep_points=self._context.keep_paths
            ):
                if isinstance(outcome, Exception):
                    yield failure_of(task.key, outcome)
                else:
                    seconds = (time.monotonic() - started) / len(tasks)
                    yield self._done(task, outcome, seconds, records)
        finally:
            self._telling.stop()

    def _done(self, task: Task, record: Record, seconds: float, records: list[Record]) -> Done:
        self._ended[task.key] = task
        records.append(_signed(record, self._name, self._context.lease_term, seconds))
        return Done(record.key, _figure(record))


def _groups(pack: Sequence[Task], paths_at_once: int) -> Iterator[list[Task]]:
    """The tasks of a pack, paths of one problem with equal settings put together, in order otherwise."""
    groups: dict[object, list[Task]] = {}
    for task in pack:
        alike = task.key
        if isinstance(task, OptimizePath) and paths_at_once > 1:
            alike = path_family(task.problem, task.settings, 0)
        groups.setdefault(alike, []).append(task)
    for group in groups.values():
        size = max(1, paths_at_once)
        yield from (group[first : first + size] for first in range(0, len(group), size))


def _signed(record: Record, worker: str, lease_term: int, seconds: float) -> Record:
    """The record with who made it, when, and how long it took."""
    return replace(
        record,
        worker=worker,
        lease_term=lease_term,
        seconds=seconds,
        finished_at=datetime.now(UTC),
    )


def _figure(record: Record) -> float:
    match record:
        case MinimumRecord(loss=loss):
            return loss
        case PairRecord(height=height):
            return height
        case SimplexRecord(value=value):
            return value
