"""The whole driver in simulated time: planner, scheduler, commit log and store, with fake workers.

    python -m tests.benchmarks.whole_driver --nodes 64 --minima 300

The loop of `drive` is the real one, and so are the plan, the keys, the records, the commit log and its
compaction. Simulated are the clock, the workers, and a store in memory whose answers take 20 ms and fail once
in a hundred. Nodes of eight GPUs train minima and optimise all pairs, 1 to 300 s each. A node is lost every
five minutes and back after two; every two hours a wave of spot nodes, half of all, is gone for ten minutes.
"""

import argparse
import json
import math
import random
import sys
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any
from unittest import mock

import psutil

from orchestrator.planning.plan import Plan
from orchestrator.runs import maintenance
from orchestrator.scheduling import store_retry
from orchestrator.scheduling.driver import drive
from orchestrator.scheduling.outcome import Ending
from orchestrator.scheduling.policy import Policy
from orchestrator.telemetry import events
from tests.benchmarks.many_pairs import plan_of
from tests.benchmarks.simulated_cluster import GPUS, Cluster, Figures
from tests.benchmarks.simulated_store import Clock, Remote
from tests.helpers.memory_objects import MemoryObjects
from workers.storage.run_store import Store


class Awaited(ThreadPoolExecutor):
    """A thread for which the caller waits: simulated time passes faster than a compaction can follow, which
    on a cluster ends between two results."""

    def submit(self, *call: Any, **named: Any) -> Future[Any]:
        future = super().submit(*call, **named)
        wait([future])
        return future


class Lease:
    """A lease without contenders."""

    term = 1

    def check(self) -> None:
        """It is held."""

    confirm = check


class Watch:
    """An observer that counts completed tasks, and measures as they go on.

    Args:
        plan: of the run.
        clock: of the simulation.
        objects: the content of the store.
        figures: receives what is counted.
        workers: number of workers.
    """

    def __init__(
        self, plan: Plan, clock: Clock, objects: MemoryObjects, figures: Figures, workers: int
    ) -> None:
        self.cluster: Cluster | None = None
        self._clock, self._objects, self._figures = clock, objects, figures
        keys = [*plan.minimum_keys, *plan.path_keys()]
        # Allocated before the run starts: what grows later is the driver's.
        self._numbers = {int(key[:16], 16): number for number, key in enumerate(keys)}
        self._done = bytearray(len(keys))
        self._steady = {len(plan.minimum_keys), len(keys) - workers}
        self._every = max(1, len(keys) // 50)

    def __call__(self, event: object) -> None:
        if not isinstance(event, events.TaskCompleted) or self.cluster is None:
            return
        figures, number = self._figures, self._numbers[int(event.key[:16], 16)]
        figures.completed += 1
        figures.twice += self._done[number]
        self._done[number] = 1
        if figures.completed in self._steady:
            figures.steady.append((figures.busy, self.cluster.there))
        if figures.completed % self._every == 0:
            stored = sum(info.size for info in self._objects.list())
            used = psutil.Process().memory_info().rss - stored
            figures.memory.append((self._clock.now / 3600, used))
            log(figures, self._clock.now, used, self._busy_share)

    @property
    def _busy_share(self) -> float:
        """Share of busy time since the last minimum was complete; nan before."""
        if not self._figures.steady or self.cluster is None:
            return math.nan
        busy, there = self._figures.steady[0]
        return (self._figures.busy - busy) / max(self.cluster.there - there, 1e-9)


def log(figures: Figures, now: float, used: int, share: float) -> None:
    """Write how far the simulation is to standard error."""
    completed = figures.completed
    print(
        f"{completed} tasks, busy {100 * share:.2f} % since the last minimum, "
        f"{now / 3600:.2f} h, {used / 1e6:.0f} MB, "
        f"loop {1e3 * figures.loop_seconds / completed:.3f} ms a task, "
        f"slowest {1e3 * figures.slowest_event:.1f} ms",
        file=sys.stderr,
        flush=True,
    )


def simulate(nodes: int, minima: int) -> dict[str, object]:
    """Figures of a run, in simulated seconds but for those of the loop, which are of a processor."""
    clock, objects, figures = Clock(), MemoryObjects(), Figures()
    remote = Remote(objects, clock.sleep, random.Random(0))
    store = Store(remote)  # type: ignore[arg-type]
    plan = plan_of("memory/run", minima)
    watch = Watch(plan, clock, objects, figures, GPUS * nodes)

    def cluster() -> Cluster:
        watch.cluster = Cluster(clock, objects, nodes, figures)
        return watch.cluster

    with (
        mock.patch.object(store_retry, "time", clock),
        mock.patch.object(maintenance, "ThreadPoolExecutor", Awaited),
    ):
        retry = store_retry.StoreRetry(Policy(), lambda reason: None, lambda: False)
        retry(lambda: store.take_over(1))
        outcome = drive(
            plan,
            store,
            cluster,
            Lease(),  # type: ignore[arg-type]
            notify=watch,
            clock=clock,
        )
    assert outcome.ending is Ending.COMPLETE, outcome
    whole = Store(objects)  # type: ignore[arg-type]
    assert whole.count("pairs") == plan.pair_count
    return {
        "nodes": nodes,
        "pairs": plan.pair_count,
        "hours": clock.now / 3600,
        "busy_share": figures.busy / figures.there,
        "steady_share": figures.steady_share,
        "twice": figures.twice,
        "workers_lost": figures.workers_lost,
        "driver_requests": remote.requests,
        "slowest_event": figures.slowest_event,
        "loop_ms_per_task": 1e3 * figures.loop_seconds / figures.completed,
        "store_bytes": sum(info.size for info in objects.list()),
        "memory": figures.memory,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, nargs="+", default=[64])
    parser.add_argument("--minima", type=int, default=300)
    options = parser.parse_args()
    for nodes in options.nodes:
        print(json.dumps(simulate(nodes, options.minima)), flush=True)


if __name__ == "__main__":
    main()
