"""Maintenance of a store during a run and at its end."""

import threading

import pytest

from orchestrator.planning.plan import Identity, Plan
from orchestrator.run_file.reading import parse
from orchestrator.runs import maintenance
from orchestrator.runs.maintenance import drop_idle_checkpoints
from tests.helpers.records import minimum_record, pair_record
from workers.storage import segments
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


def test_compaction_does_not_hold_the_driver_up(tmp_path, monkeypatch):
    """While segments are copied, commits go on; both are in the log in the end, and nothing is lost."""
    monkeypatch.setattr(maintenance, "SEGMENTS", 3)
    store = Store(open_objects(str(tmp_path)))
    store.take_over(1)
    for i in range(5):
        store.publish_records([pair_record(f"k{i}")], term=1)
    reading, go_on = threading.Event(), threading.Event()
    pieces = segments.decode_pieces

    def held(*arguments):
        reading.set()
        go_on.wait()
        return pieces(*arguments)

    monkeypatch.setattr(segments, "decode_pieces", held)
    compaction = maintenance.Compaction(store, 1)
    compaction.start()
    reading.wait()
    store.publish_records([pair_record("meanwhile")], term=1)
    compaction.start()  # one is under way
    assert store.count("pairs") == 6
    go_on.set()
    compaction.close()
    assert store.segment_count("pairs") == 2
    fresh = Store(open_objects(str(tmp_path)))
    assert fresh.completed("pairs") == {"meanwhile", *(f"k{i}" for i in range(5))}
