"""A real Ray cluster on which the processes of workers end while they start."""

import os

import pytest

from orchestrator.cluster.connection import ClusterSettings
from orchestrator.cluster.executor import RayExecutor
from orchestrator.run_file.groups import Resources
from orchestrator.scheduling.driver import drive
from orchestrator.scheduling.executor import WorkersUnavailable
from orchestrator.scheduling.lease import Lease
from orchestrator.scheduling.outcome import Ending
from orchestrator.telemetry import events
from tests.benchmarks.many_pairs import Instant, plan_of, with_minima
from workers.execution.worker import WorkerContext
from workers.problems.evaluation import Evaluation
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store

pytestmark = [pytest.mark.usefixtures("home_of_ray"), pytest.mark.slow, pytest.mark.timeout(180)]


class Dying(Instant):
    """A worker whose process ends while it starts, as that of a kernel that is out of memory."""

    def __init__(self, context, name, stopping):
        os._exit(1)


class DyingSecond(Instant):
    """The same of `worker-1` alone; the other one takes long enough for that to happen."""

    seconds = 2.0

    def __init__(self, context, name, stopping):
        if name == "worker-1":
            os._exit(1)
        super().__init__(context, name, stopping)


def driven(tmp_path, make, notify):
    location = str(tmp_path / "run")
    plan = plan_of(location, 4)
    store = Store(open_objects(location))
    lease = Lease.acquire(store.objects)
    store.take_over(lease.term)
    with_minima(plan, store, lease.term)
    context = WorkerContext(location, lease.term, Evaluation())
    settings = ClusterSettings(resources=Resources(workers=2))
    try:
        return drive(
            plan, store, lambda: RayExecutor(context, settings, make), lease, notify=notify
        )
    finally:
        lease.close()


def test_a_run_of_which_no_worker_can_start_ends_and_says_why(tmp_path):
    """Ray restarts the processes without end; the run ends after a few of them, with a sentence."""
    seen = []
    with pytest.raises(WorkersUnavailable, match=r"No worker can start: .*its process ended"):
        driven(tmp_path, Dying, seen.append)
    assert "could not start" in next(e.cause for e in seen if isinstance(e, events.WorkerLost))


def test_a_run_goes_on_with_the_workers_that_can_start(tmp_path):
    """One of two cannot start: the other completes the run, and the first one is reported."""
    seen = []
    assert driven(tmp_path, DyingSecond, seen.append).ending is Ending.COMPLETE
    (*_, last) = [e for e in seen if isinstance(e, events.WorkerLost)]
    assert last.worker == "worker-1" and "could not start" in last.cause
