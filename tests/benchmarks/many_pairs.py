"""The driver on half a million pairs whose work is a sleep: what it costs, and how fast it resumes.

    python -m tests.benchmarks.many_pairs STORE [--minima 1000] [--instant]
    python -m tests.benchmarks.many_pairs --baseline 20000

Prints one JSON object a line: `cluster` when Ray is up, `started` when the first pack is handed out,
`so far` fifty times, `ended` at the end. Times of a resumed run count from the start of its
process. The baseline is one Ray task for each pair, with the same sleep, which stores nothing.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import psutil

from orchestrator.cluster.token import protect_own_cluster
from orchestrator.planning.plan import Identity, Plan
from orchestrator.run_file.groups import Resources
from orchestrator.run_file.reading import parse
from orchestrator.scheduling.driver import drive
from orchestrator.scheduling.lease import Lease
from orchestrator.telemetry import events
from tests.helpers.records import minimum_record, pair_record
from workers.execution.worker import WorkerContext
from workers.problems.evaluation import Evaluation
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store
from workers.storage.schema import PairRecord
from workers.tasks.path_tasks import OptimizePath
from workers.tasks.results import Done

WORKERS = 2

BASELINE_WINDOW = 64
"""Tasks in flight: enough to keep the workers busy, few enough for `ray.wait` to be quick."""


class Sleeper:
    """A worker that sleeps instead of optimising, and publishes records as a worker does."""

    seconds = 1e-3

    def __init__(
        self, context: WorkerContext, name: str, stopping: Callable[[], bool] = lambda: False
    ) -> None:
        self._context, self._name = context, name
        self._store = Store(open_objects(context.location))

    def progress(self) -> dict[str, float]:
        return {}

    def run(self, pack: Sequence[OptimizePath]) -> list[Done]:
        records = [self._slept(task) for task in pack]
        segment = self._store.publish_segment(
            records, term=self._context.lease_term, worker=self._name
        )
        return [Done(record.key, record.height, segment=segment) for record in records]

    def _slept(self, task: OptimizePath) -> PairRecord:
        time.sleep(self.seconds)
        return pair_record(task.key, pair=(task.i, task.j))


class Instant(Sleeper):
    """The same without the sleep: what is left is the cost of orchestration."""

    seconds = 0.0


def plan_of(location: str, minima: int) -> Plan:
    store, _, name = location.rpartition("/")
    run = parse(
        {
            "name": name,
            "store": store,
            "data": "digits",
            "network": "fc",
            "minima": {"count": minima},
            "resources": {"workers": WORKERS},
        }
    )
    return Plan(run, Identity("data", "network"))


def with_minima(plan: Plan, store: Store, epoch: int) -> None:
    """All minima as if they had been trained."""
    if store.completed("minima"):
        return
    object_ = store.publish_minimum(plan.minimum_keys[0], {})
    records = [
        minimum_record(key, number=number, object_=object_)
        for number, key in enumerate(plan.minimum_keys)
    ]
    store.publish_records(records, term=epoch)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("location", nargs="?")
    parser.add_argument("--minima", type=int, default=1000)
    parser.add_argument("--instant", action="store_true")
    parser.add_argument("--baseline", type=int, metavar="PAIRS")
    options = parser.parse_args()
    if options.baseline:
        baseline(options.baseline)
        return
    plan = plan_of(options.location, options.minima)
    store = Store(open_objects(options.location))
    lease = Lease.acquire(store.objects)
    store.take_over(lease.term)
    with_minima(plan, store, lease.term)
    protect_own_cluster()
    from orchestrator.cluster.connection import ClusterSettings
    from orchestrator.cluster.executor import RayExecutor

    context = WorkerContext(options.location, lease.term, Evaluation())
    settings = ClusterSettings(resources=Resources(workers=WORKERS))
    meter = Meter(max(1, plan.pair_count // 50))

    def executor() -> RayExecutor:
        known = meter.age
        made = RayExecutor(context, settings, Instant if options.instant else Sleeper)
        say("cluster", left_known_in=known, ray=meter.age - known)
        return made

    outcome = drive(plan, store, executor, lease, notify=meter)
    say("ended", ending=outcome.ending.value, pairs=plan.pair_count, **meter.figures())
    lease.close()


class Meter:
    """An observer that measures the driver from its first pack on.

    Args:
        every: pairs between two lines about it.
    """

    def __init__(self, every: int) -> None:
        self._born = psutil.Process().create_time()
        self._wall = self._cpu = 0.0
        self._done, self._every = 0, every

    @property
    def age(self) -> float:
        """Seconds since this process was started."""
        return time.time() - self._born

    def __call__(self, event: events.ObservedEvent) -> None:
        match event:
            case events.TaskStarted() if not self._wall:
                self._wall, self._cpu = time.time(), time.process_time()
                say("started", first_pack_in=self.age)
            case events.TaskCompleted():
                self._done += 1
                if self._done % self._every == 0:
                    say("so far", **self.figures())

    def figures(self) -> dict[str, float]:
        """Pairs done by this driver, seconds of wall and processor since its first pack, bytes."""
        return {
            "done": self._done,
            "wall": time.time() - self._wall,
            "driver_cpu": time.process_time() - self._cpu,
            "memory": _resident(),
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }


def baseline(pairs: int) -> None:
    """A task for each pair, a window of them at a time; the cluster is started before the clock."""
    protect_own_cluster()
    import ray

    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    task = ray.remote(_sleep)
    ray.get([task.remote(0) for _ in range(100)])
    cpu, wall = time.process_time(), time.time()
    waiting: list[Any] = []
    for pair in range(pairs):
        waiting.append(task.remote(pair))
        while len(waiting) >= BASELINE_WINDOW:
            done, waiting = ray.wait(waiting, num_returns=1)
            ray.get(done)
    ray.get(waiting)
    say("baseline", pairs=pairs, wall=time.time() - wall, driver_cpu=time.process_time() - cpu)
    ray.shutdown()


def _sleep(pair: int) -> int:
    time.sleep(Sleeper.seconds)
    return pair


def say(what: str, **figures: Any) -> None:
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    print(json.dumps({"what": what, "at": at, **figures}), flush=True)


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
