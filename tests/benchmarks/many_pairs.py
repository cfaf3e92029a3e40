"""The driver on half a million pairs whose work is a sleep: what it costs, and how fast it resumes.

    python -m tests.benchmarks.many_pairs STORE [--minima 1000] [--instant]
    python -m tests.benchmarks.many_pairs --baseline 20000

Prints one JSON object a line: `started` when the first pack is handed out, `ended` at the end. The
baseline is one Ray task for each pair, which stores nothing.
"""

import argparse
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from orchestrator.cluster_token import protect_own_cluster
from orchestrator.config import Resources, parse
from orchestrator.drive import drive
from orchestrator.lease import Lease
from orchestrator.plan import Identity, Plan
from tests.helpers.records import minimum_record, pair_record
from workers.evaluation import Evaluation
from workers.objects import open_objects
from workers.results import Done
from workers.run import WorkerContext
from workers.schema import PairRecord
from workers.store import Store
from workers.tasks import OptimizePath

WORKERS = 2


class Sleeper:
    """A worker that sleeps instead of optimising, and publishes records as a worker does."""

    seconds = 1e-3

    def __init__(self, context: WorkerContext, name: str) -> None:
        self._context, self._name = context, name
        self._store = Store(open_objects(context.location))

    def progress(self) -> dict[str, float]:
        return {}

    def run(self, pack: Sequence[OptimizePath]) -> list[Done]:
        records = [self._slept(task) for task in pack]
        self._store.publish_records(records, epoch=self._context.lease_epoch)
        return [Done(record.key, record.height) for record in records]

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
    store.publish_records(records, epoch=epoch)


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
    launched = time.time()
    plan = plan_of(options.location, options.minima)
    store = Store(open_objects(options.location))
    lease = Lease.acquire(store.objects)
    store.fence(lease.epoch)
    with_minima(plan, store, lease.epoch)
    protect_own_cluster()
    from orchestrator.ray_executor import ClusterSettings, RayExecutor

    context = WorkerContext(options.location, lease.epoch, Evaluation())
    settings = ClusterSettings(resources=Resources(workers=WORKERS))
    ready: list[float] = []
    memory: list[int] = []

    def executor() -> RayExecutor:
        ready.append(time.time())
        made = RayExecutor(context, settings, Instant if options.instant else Sleeper)
        say("cluster", seconds=time.time() - ready[0])
        return made

    first = threading.Event()

    def notify(event: Any) -> None:
        if type(event).__name__ == "TaskStarted" and not first.is_set():
            first.set()
            say("started", resumed_in=ready[0] - launched, first_pack_in=time.time() - launched)
        if type(event).__name__ == "Beat":
            memory.append(_resident())

    cpu, wall = time.process_time(), time.time()
    outcome = drive(plan, store, executor, lease, notify=notify)
    say(
        "ended",
        ending=outcome.ending.value,
        pairs=plan.pair_count,
        wall=time.time() - wall,
        driver_cpu=time.process_time() - cpu,
        memory_early=memory[len(memory) // 10] if memory else 0,
        memory_late=memory[-1] if memory else 0,
        peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )
    lease.close()


def baseline(pairs: int) -> None:
    """A task for each pair, waited for one by one; the cluster is started before the clock."""
    protect_own_cluster()
    import ray

    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    task = ray.remote(_nothing)
    ray.get([task.remote(0) for _ in range(100)])
    cpu, wall = time.process_time(), time.time()
    left = [task.remote(pair) for pair in range(pairs)]
    while left:
        done, left = ray.wait(left, num_returns=1)
        ray.get(done)
    say("baseline", pairs=pairs, wall=time.time() - wall, driver_cpu=time.process_time() - cpu)
    ray.shutdown()


def _nothing(pair: int) -> int:
    return pair


def say(what: str, **figures: Any) -> None:
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    print(json.dumps({"what": what, "at": at, **figures}), flush=True)


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
