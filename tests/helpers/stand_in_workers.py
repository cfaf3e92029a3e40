"""A run on a real Ray cluster of this machine, by two workers that stand in for those of the program."""

from pathlib import Path

from orchestrator.cluster.connection import ClusterSettings
from orchestrator.cluster.executor import RayExecutor
from orchestrator.run_file.groups import Resources
from orchestrator.scheduling.driver import drive
from orchestrator.scheduling.lease import Lease
from orchestrator.scheduling.outcome import Outcome
from orchestrator.scheduling.worker_health import Limits
from orchestrator.telemetry.events import Observer
from tests.benchmarks.many_pairs import Sleeper, plan_of, with_minima
from workers.execution.worker import WorkerContext
from workers.problems.evaluation import Evaluation
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store


def driven_by(
    worker: type[Sleeper],
    folder: Path,
    notify: Observer,
    *,
    count: int,
    limits: Limits | None = None,
) -> tuple[Store, Outcome]:
    """The store and the outcome of a run with all pairs of ``count`` minima, in ``folder``/run."""
    location = str(folder / "run")
    plan, store = plan_of(location, count), Store(open_objects(location))
    lease = Lease.acquire(store.objects)
    store.take_over(lease.term)
    with_minima(plan, store, lease.term)
    context = WorkerContext(location, lease.term, Evaluation())
    settings = ClusterSettings(resources=Resources(workers=2), limits=limits or Limits())
    try:
        outcome = drive(
            plan, store, lambda: RayExecutor(context, settings, worker), lease, notify=notify
        )
    finally:
        lease.close()
    return store, outcome
