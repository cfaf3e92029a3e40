"""What ten thousand tasks leave in Ray's temporary folder."""

import os
from pathlib import Path

import pytest
import ray

from orchestrator.cluster.connection import ClusterSettings
from orchestrator.cluster.executor import RayExecutor
from orchestrator.run_file.models import Resources
from orchestrator.scheduling.driver import drive
from orchestrator.scheduling.lease import Lease
from orchestrator.scheduling.outcome import Ending
from orchestrator.telemetry import events
from tests.benchmarks.many_pairs import Instant, plan_of, with_minima
from workers.execution.worker import WorkerContext
from workers.problems.evaluation import Evaluation
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store


class Quiet(Instant):
    """An instant worker with the counters that metrics are made of."""

    def counters(self):
        return {}


def size_of(folder):
    """Bytes on the disk of all files below a folder."""
    files = (Path(root) / name for root, _, names in os.walk(folder) for name in names)
    return sum(file.lstat().st_blocks * 512 for file in files if not file.is_symlink())


@pytest.mark.slow
@pytest.mark.usefixtures("home_of_ray")
@pytest.mark.timeout(400)
def test_rays_temporary_folder_does_not_grow_with_tasks(tmp_path):
    """Between the first and the last of 10,000 tasks it grows by less than a megabyte: 100 bytes a task."""
    location = str(tmp_path / "run")
    plan, store = plan_of(location, 142), Store(open_objects(location))
    lease = Lease.acquire(store.objects)
    store.take_over(lease.term)
    with_minima(plan, store, lease.term)
    context = WorkerContext(location, lease.term, Evaluation())
    settings = ClusterSettings(resources=Resources(workers=2))
    done, sizes = 0, []

    def notify(event):
        nonlocal done
        done += isinstance(event, events.TaskCompleted)
        if isinstance(event, events.TaskCompleted) and done in (500, plan.pair_count):
            sizes.append(size_of(ray._private.worker._global_node.get_session_dir_path()))

    outcome = drive(
        plan, store, lambda: RayExecutor(context, settings, Quiet), lease, notify=notify
    )
    lease.close()
    assert outcome.ending is Ending.COMPLETE and done == plan.pair_count > 10_000
    assert sizes[1] - sizes[0] < 1_000_000, sizes
