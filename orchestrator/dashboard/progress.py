"""The progress of a run: tasks done and left, workers, and the estimated time left.

Everything is read from the store. Between two readings only the last seen beat of the driver's lease is
remembered, to tell whether the driver is running.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from orchestrator.analysis.landscape import Landscape
from orchestrator.planning.plan import Plan
from orchestrator.planning.saddle_refinement import saddle_task
from orchestrator.runs.stored_run import StartedRun
from orchestrator.scheduling.holder import Holder, is_gone
from orchestrator.scheduling.lease import BEAT_SECONDS, STALE_SECONDS
from workers.storage import object_names as layout
from workers.storage.object_names import LEASE
from workers.storage.objects import NotFound, Objects
from workers.storage.schema import ResultRecord
from workers.tasks.minimum_tasks import TrainMinimum

RECENT = 64
"""Number of newest finished paths from which the rate is computed: enough to average, few enough to follow a
change of the rate."""

LISTED = 40
"""Largest number of unfinished tasks that are listed, so that the list fits on a page."""


class DriverState(StrEnum):
    """The state of the driver of a run.

    `QUIET`: the lease was not renewed for `STALE_SECONDS`. `LEFT`: the lease is released or its process has
    ended. `UNKNOWN`: the lease has not been watched long enough to tell.
    """

    RUNNING = "running"
    QUIET = "not responding"
    LEFT = "not running"
    UNKNOWN = "not known yet"


@dataclass(frozen=True)
class TaskCount:
    """Numbers of tasks of one kind: in total, done, left to do, failed, and skipped by the pair rule."""

    kind: str
    total: int
    done: int
    left: int
    failed: int = 0
    skipped: int = 0


@dataclass(frozen=True)
class Unfinished:
    """A task with a checkpoint but no result yet, with its current epoch and its number of epochs."""

    task: str
    epoch: int
    epochs: int


@dataclass(frozen=True)
class WorkerSummary:
    """A worker, from the records of its results.

    Attributes:
        name: name of the worker.
        done: number of finished tasks.
        seconds: working time on these tasks.
        last: time at which its last task was finished; None if not known.
    """

    name: str
    done: int
    seconds: float
    last: datetime | None


@dataclass(frozen=True)
class Progress:
    """The progress of a run at the time `read_at`."""

    run: str
    complete: bool
    driver: DriverState
    driver_described: str
    counts: tuple[TaskCount, ...]
    unfinished: tuple[Unfinished, ...]
    workers: tuple[WorkerSummary, ...]
    eta: float | None
    """Seconds left at the rate of the newest finished paths; None if not known."""
    read_at: datetime

    def to_json(self) -> dict[str, Any]:
        values = asdict(self)
        values["workers"] = [
            {**asdict(w), "last": w.last.isoformat() if w.last else None} for w in self.workers
        ]
        values["read_at"] = self.read_at.isoformat(timespec="milliseconds")
        return values


class DriverWatch:
    """Tells from repeated readings of the lease whether the driver renews it.

    Only the clock of this machine is used, since the clocks of two machines may differ.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: tuple[int, int] | None = None
        self._moved: float | None = None
        self._since = clock()

    def state(self, objects: Objects) -> tuple[DriverState, str]:
        """The state of the driver, and a description of its process."""
        try:
            holder = Holder.decode(objects.get(LEASE))
        except (NotFound, ValueError):
            return DriverState.LEFT, ""
        if holder.released or is_gone(holder):
            return DriverState.LEFT, holder.described
        now, beat = self._clock(), (holder.term, holder.beat)
        if self._seen is not None and beat != self._seen:
            self._moved = now
        self._seen = beat
        last = self._moved if self._moved is not None else self._since
        if now - last > STALE_SECONDS:
            return DriverState.QUIET, holder.described
        return (
            DriverState.RUNNING if self._moved is not None else DriverState.UNKNOWN
        ), holder.described

    def decided_state(
        self, objects: Objects, sleep: Callable[[float], None] = time.sleep
    ) -> tuple[DriverState, str]:
        """The state of the driver; reads the lease repeatedly if one reading does not decide.

        A driver that has ended on this machine is recognised at once. A driver on another machine is reported
        as `QUIET` if it does not renew its lease within `3 * BEAT_SECONDS`.
        """
        until = self._clock() + 3 * BEAT_SECONDS
        while (state := self.state(objects))[0] is DriverState.UNKNOWN and self._clock() < until:
            sleep(BEAT_SECONDS / 8)
        return (DriverState.QUIET, state[1]) if state[0] is DriverState.UNKNOWN else state


def progress_of(
    run: StartedRun,
    landscape: Landscape,
    driver: tuple[DriverState, str],
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Progress:
    """The progress of a run.

    Args:
        run: the run.
        landscape: its results, just read from the store.
        driver: the result of `DriverWatch.state`.
        now: returns the current time.
    """
    counts = counts_of(landscape)
    records: list[ResultRecord] = [
        *landscape.minima.values(),
        *landscape.passes.values(),
        *landscape.simplices.values(),
        *landscape.saddles.values(),
    ]
    eta = None
    if driver[0] is DriverState.RUNNING:
        eta = seconds_left(counts, {"minima": landscape.minima, "paths": landscape.passes})
    return Progress(
        run=landscape.run,
        complete=landscape.complete,
        driver=driver[0],
        driver_described=driver[1],
        counts=counts,
        unfinished=unfinished(run.plan, run.store.objects, {r.key for r in records}),
        workers=workers_of(records),
        eta=eta,
        read_at=now(),
    )


def counts_of(landscape: Landscape) -> tuple[TaskCount, ...]:
    """The numbers of minima, paths and, where the run asks for them, simplices and saddles."""
    failed = [failure.what.split(" ")[0] for failure in landscape.failures]

    def count(kind: str, one: str, total: int, done: int) -> TaskCount:
        lost = failed.count(one)
        return TaskCount(kind, total, done, total - done - lost, lost)

    pairs = landscape.counts
    kinds = [
        count("minima", "minimum", landscape.minima_expected, len(landscape.minima)),
        TaskCount("paths", pairs.total, pairs.done, pairs.open, pairs.failed, pairs.skipped),
    ]
    if total := landscape.simplices_expected:
        kinds.append(count("simplices", "simplex", total, len(landscape.simplices)))
    if total := landscape.saddles_expected:
        kinds.append(count("saddles", "saddle", total, landscape.saddles_done))
    return tuple(kinds)


def seconds_left(
    counts: Sequence[TaskCount], finished: Mapping[str, Mapping[Any, ResultRecord]]
) -> float | None:
    """Seconds until the paths that are left are done, at the rate of the `RECENT` newest finished paths.

    None while minima or simplices are left, whose cost is not known; with fewer than three finished paths;
    and if no path is left. Saddles are not included.

    Args:
        counts: numbers of tasks, which include the kinds `minima` and `paths`.
        finished: records of finished tasks by kind, which include `paths`.
    """
    left = {count.kind: count.left for count in counts}
    if left.get("simplices") or left["minima"] > 0:
        return None
    times = sorted(
        record.finished_at for record in finished["paths"].values() if record.finished_at
    )[-RECENT:]
    if len(times) < 3 or left["paths"] <= 0:
        return None
    each = (times[-1] - times[0]).total_seconds() / (len(times) - 1)
    return each * left["paths"]


def workers_of(records: Iterable[ResultRecord]) -> tuple[WorkerSummary, ...]:
    """Summarise records by worker, the worker with the most tasks first."""
    by_name: dict[str, list[ResultRecord]] = defaultdict(list)
    for record in records:
        by_name[record.worker or "this process"].append(record)
    workers = [
        WorkerSummary(
            name,
            len(own),
            sum(record.seconds for record in own),
            max((r.finished_at for r in own if r.finished_at), default=None),
        )
        for name, own in by_name.items()
    ]
    return tuple(sorted(workers, key=lambda worker: (-worker.done, worker.name)))


def unfinished(plan: Plan, objects: Objects, done: set[str]) -> tuple[Unfinished, ...]:
    """Tasks with a checkpoint but no record, at most `LISTED`, the largest share of epochs done first.

    Args:
        plan: the plan of the run.
        objects: the objects of its store.
        done: keys of tasks with a record.
    """
    epochs: dict[str, int] = {}
    for info in objects.list(layout.CHECKPOINTS):
        name = layout.parse_name(info.name)
        if name is not None:
            key = name.folder.rpartition("/")[2]
            if key not in done:
                epochs[key] = max(epochs.get(key, 0), name.number)
    if not epochs:
        return ()
    tasks = [
        Unfinished(title, epochs[key], total) for key, title, total in _named(plan) if key in epochs
    ]
    return tuple(sorted(tasks, key=lambda task: -task.epoch / task.epochs)[:LISTED])


def _named(plan: Plan) -> Iterable[tuple[str, str, int]]:
    """Key, title and number of epochs of each task; for saddles, the number of rounds."""
    for index, task in enumerate(plan.minima):
        if isinstance(task, TrainMinimum):
            yield task.key, f"minimum {index}", task.settings.epochs
    for rung, settings in enumerate(plan.rungs):
        for i, j in plan.pairs():
            yield plan.pair_key((i, j), rung), f"path {i}–{j}", settings.epochs or 1
    if plan.refines_saddles:
        for pair in plan.pairs():
            saddle = saddle_task(plan, pair, plan.pair_key(pair))
            yield saddle.key, saddle.title, saddle.rounds
