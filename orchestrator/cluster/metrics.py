"""Metrics for Prometheus, exported by Ray, which adds the prefix `ray_` to every name."""

from collections.abc import Mapping, Sequence

from ray.util.metrics import Counter, Gauge, Histogram

from orchestrator.telemetry.events import (
    ObservedEvent,
    Progress,
    RunFinished,
    TaskFailed,
    WorkerLost,
)
from orchestrator.telemetry.tally import Tally
from workers.tasks.task import Task

TASK_SECONDS = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0]
"""Upper bounds in seconds of the histogram of task durations: two per decade, from an epoch to some hours."""


class WorkerMetrics:
    """The metrics of one worker, reported from its process."""

    def __init__(self) -> None:
        self._reported: dict[str, float] = {}
        self._counters = {
            "path_epochs": Counter("toscore_path_epochs", "Epochs of path optimisation."),
            "checkpoint_bytes": Counter(
                "toscore_checkpoint_bytes", "Bytes of checkpoints published."
            ),
            "idle_seconds": Counter("toscore_worker_idle_seconds", "Time of workers without work."),
        }
        self._seconds = Histogram(
            "toscore_task_seconds",
            "Time that a task took on its worker.",
            boundaries=TASK_SECONDS,
            tag_keys=("kind",),
        )

    def counted(self, counters: Mapping[str, float]) -> None:
        """Report how much each counter has grown since the last call.

        Args:
            counters: present value of each counter, by name.
        """
        for name, value in counters.items():
            grown = value - self._reported.get(name, 0.0)
            if grown > 0:
                self._counters[name].inc(grown)
                self._reported[name] = value

    def finished(self, pack: Sequence[Task], seconds: float) -> None:
        """Report the durations of the tasks of a pack: each gets an equal share of its `seconds`."""
        for task in pack:
            self._seconds.observe(seconds / len(pack), tags={"kind": type(task).__name__})


class DriverMetrics:
    """An observer that reports tasks by kind and state, and the workers that are present and lost.

    Args:
        run: name of the run.
        tally: counts the events of the run.
    """

    def __init__(self, run: str, tally: Tally) -> None:
        self._run, self._tally = run, tally
        self._failed = dict.fromkeys(tally.done, 0)
        self._tasks = Gauge("toscore_tasks", "Tasks of a run.", tag_keys=("run", "kind", "state"))
        self._running = Gauge("toscore_tasks_running", "Tasks given to workers.", tag_keys=("run",))
        self._workers = Gauge("toscore_workers", "Workers that have joined.", tag_keys=("run",))
        self._lost = Counter("toscore_workers_lost", "Workers lost.", tag_keys=("run", "how"))

    def __call__(self, event: ObservedEvent) -> None:
        match event:
            case WorkerLost(how=how):
                self._lost.inc(tags={"run": self._run, "how": how})
            case TaskFailed(kind=kind):
                self._failed[kind] = self._failed.get(kind, 0) + 1
            case Progress() | RunFinished():
                self._report()
            case _:
                pass

    def _report(self) -> None:
        tally, run = self._tally, {"run": self._run}
        self._workers.set(tally.workers, tags=run)
        self._running.set(tally.running, tags=run)
        for kind in tally.done:
            states = {
                "total": tally.total(kind),
                "done": tally.finished(kind),
                "failed": self._failed.get(kind, 0),
            }
            for state, count in states.items():
                self._tasks.set(count, tags={**run, "kind": kind, "state": state})
