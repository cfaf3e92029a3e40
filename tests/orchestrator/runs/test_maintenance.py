"""What is put in order at the end of a run."""

import pytest

from orchestrator.planning.plan import Identity, Plan
from orchestrator.run_file.reading import parse
from orchestrator.runs.maintenance import drop_idle_checkpoints
from tests.helpers.records import minimum_record, pair_record
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store


@pytest.fixture
def plan():
    run = {"name": "x", "data": "digits", "network": "fc", "minima": {"count": 4}}
    return Plan(
        parse({**run, "paths": {"epochs": 20}, "pairs": {"rungs": [5]}}), Identity("d", "n")
    )


def test_checkpoints_of_finished_tasks_go(plan, tmp_path):
    """A worker was killed before it deleted them; those of tasks that may go on stay."""
    store = Store(open_objects(str(tmp_path)))
    object_ = store.publish_minimum("m", {})
    store.publish_records([minimum_record(plan.minimum_keys[0], object_=object_)], term=1)
    whole, short, half_way = (plan.path(pair) for pair in ((0, 1), (0, 2), (0, 3)))
    lowest = plan.path((0, 2), rung=0)
    store.publish_records([pair_record(task.key) for task in (whole, lowest)], term=1)
    idle = {plan.minimum_keys[0], whole.key, whole.lineage, lowest.key}
    needed = {plan.minimum_keys[1], short.lineage, half_way.key}
    for key in idle | needed:
        store.publish_checkpoint(key, 3, {}, {"epoch": 3})
    drop_idle_checkpoints(plan, store)
    assert store.checkpointed() == sorted(needed)
