"""The store of a run, in a folder and on object stores: complete tasks, damaged objects, failures."""

import random

import duckdb
import pandas as pd
import pytest
import torch

from tests.helpers.records import minimum_record, pair_record
from workers.storage import object_names as layout
from workers.storage.objects import Fenced
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Damaged, Store
from workers.storage.schema import MinimumRecord, PairRecord


@pytest.fixture
def store(location):
    return Store(open_objects(location))


def again(store):
    """Another process's view of the same store."""
    return Store(open_objects(store.objects.url))


def flip(store, name, position=-1):
    """Turn one bit of an object."""
    data = bytearray(store.objects.get(name))
    data[position] ^= 1
    store.objects.put(name, bytes(data))


def publish_path(store, key, number=0, *, term=1):
    name = store.publish_path(key, {"points": torch.full((3, 2), float(number))})
    store.publish_records([pair_record(key, number=number, object_=name)], term=term)
    return name


def test_published_records_are_complete(store):
    """All records of a committed segment count, for other processes too."""
    records = [pair_record(f"k{i}", number=i) for i in range(5)]
    store.publish_records(records[:3], term=1)
    store.publish_records(records[3:], term=1)
    assert again(store).completed("pairs") == {f"k{i}" for i in range(5)}
    found = sorted(again(store).records(PairRecord), key=lambda r: r.key)
    assert found == records


def test_a_task_counts_once(store):
    """Of two records of one key the one that was committed first is read."""
    store.publish_records([pair_record("k")], term=1)
    store.publish_records([pair_record("k", number=1)], term=2)
    assert store.records(PairRecord) == [pair_record("k")]


def test_a_record_without_its_object_is_not_complete(store):
    """A task whose object is missing is not complete, and `verify` names the object."""
    name = publish_path(store, "k")
    assert store.completed("pairs") == {"k"}
    store.objects.delete(name)
    assert again(store).completed("pairs") == frozenset()
    assert [d.name for d in again(store).verify()] == [name]


def test_minima_come_back_with_their_names(store):
    """A state dict is read as it was published, bit for bit."""
    state = {"0.weight": torch.randn(3, 2), "0.bias": torch.randn(3), "n": torch.tensor(7)}
    name = store.publish_minimum("m", state)
    store.publish_records([minimum_record("m", object_=name)], term=1)
    found = again(store).read_minimum(name)
    assert sorted(found) == sorted(state)
    assert all(torch.equal(found[k], state[k]) for k in state)
    assert [r.object for r in store.records(MinimumRecord)] == [name]


@pytest.mark.parametrize("position", [0, 20, -1])
def test_a_flipped_bit_is_detected_and_named(store, position):
    """In a path, a minimum or a segment: the error names the object, and its result does not count."""
    path = publish_path(store, "k")
    flip(store, path, position)
    with pytest.raises(Damaged, match=path):
        again(store).read_path(path)
    minimum = store.publish_minimum("m", {"w": torch.ones(4)})
    flip(store, minimum, position)
    with pytest.raises(Damaged, match=minimum):
        again(store).read_minimum(minimum)
    segment = store.publish_records([pair_record("other")], term=1)
    flip(store, segment, position)
    fresh = again(store)
    assert "other" not in fresh.completed("pairs")
    assert [d.name for d in fresh.damage()] == [segment]


def test_truncated_objects_are_detected_and_discarded(store):
    """`discard` deletes damaged objects, so their tasks are not complete; other objects stay."""
    path, other = publish_path(store, "k"), publish_path(store, "other", 1)
    minimum = store.publish_minimum("m", {"w": torch.ones(4)})
    store.publish_records([minimum_record("m", object_=minimum)], term=1)
    for name in (path, minimum):
        store.objects.put(name, store.objects.get(name)[:-7])
    fresh = again(store)
    assert {d.name for d in fresh.verify()} == {path, minimum}
    assert fresh.completed("pairs", deep=True) == {"other"}
    fresh.discard(fresh.damage())
    last = again(store)
    assert last.completed("pairs") == {"other"}
    assert last.completed("minima") == frozenset()
    assert torch.equal(last.read_path(other)["points"], torch.ones(3, 2))
    assert last.objects.get(other)


def test_repair_on_start(location):
    """`repair` checks the objects that results are computed from."""
    store = Store(open_objects(location))
    store.publish_minimum("m", {"w": torch.ones(4)})
    segment = store.publish_records([pair_record("k")], term=1)
    flip(store, segment, 30)
    assert [d.name for d in again(store).repair()] == [segment]
    assert again(store).repair() == []


def test_checkpoints_go_back_to_the_last_whole_one(store):
    """The newest readable checkpoint is used; only the newest two are kept."""
    for epoch in (10, 20, 30):
        store.publish_checkpoint("k", epoch, {"points": torch.full((1, 1), epoch * 1.0)}, {"e": 1})
    names = [info.name for info in store.objects.list(layout.checkpoint_folder("k"))]
    assert len(names) == 2
    newest = again(store).latest_checkpoint("k")
    assert (newest.epoch, float(newest.tensors["points"])) == (30, 30.0)
    assert again(store).latest_checkpoint("k", at_most=25).epoch == 20
    flip(store, names[-1], 40)
    assert again(store).latest_checkpoint("k").epoch == 20
    store.drop_checkpoints("k")
    assert again(store).latest_checkpoint("k") is None


def test_failures_are_published_and_cleared(store):
    """The failure of the latest term counts for each key; after clearing, the task is tried again."""
    store.publish_failure("k", {"kind": "bug", "reason": "first"}, term=1)
    store.publish_failure("k", {"kind": "bug", "reason": "second"}, term=2)
    assert again(store).failures() == {"k": {"kind": "bug", "reason": "second"}}
    assert store.clear_failures() == 1
    assert again(store).failures() == {}


def test_failures_of_a_fenced_driver_do_not_count(store):
    """A failure that a fenced driver publishes late blocks no task, and the next repair deletes it."""
    store.publish_failure("early", {"kind": "bug"}, term=1)
    store.take_over(2)
    store.publish_failure("late", {"kind": "bug"}, term=1)
    store.publish_failure("new", {"kind": "bug"}, term=2)
    assert set(again(store).failures()) == {"early", "new"}
    again(store).repair()
    assert len(store.objects.list(layout.FAILURES)) == 2
    store.take_over(3)
    assert set(again(store).failures()) == {"early", "new"}
    assert len(store.objects.list(layout.FAILURES)) == 1
    assert store.clear_failures() == 2
    assert again(store).failures() == {}


def test_a_record_outweighs_a_failure(store):
    """A task that failed on one worker and is complete by another is complete."""
    store.publish_failure("k", {"kind": "bug"}, term=1)
    publish_path(store, "k")
    assert again(store).failures() == {}


def test_compaction_keeps_every_record(store):
    """Many segments become one with the same records; of two records of one key the same one counts."""
    rows = [pair_record(f"k{i % 40}", number=i) for i in range(50)]
    for row in rows:
        store.publish_records([row], term=1)
    before = sorted(again(store).records(PairRecord), key=lambda r: r.key)
    made = store.compact("pairs", term=1)
    assert len(made) == 1
    assert [i.name for i in store.objects.list(layout.records_folder("pairs"))] == made
    assert sorted(again(store).records(PairRecord), key=lambda r: r.key) == before
    assert store.compact("pairs", term=1) == []


def test_compaction_of_a_fenced_driver_deletes_nothing(store):
    """Its commit is refused after the copies were published; every key still counts once."""
    store.take_over(1)
    for i in range(4):
        store.publish_records([pair_record(f"k{i}", number=i)], term=1)
    again(store).take_over(2)
    with pytest.raises(Fenced):
        store.compact("pairs", term=1)
    assert len(store.objects.list(layout.records_folder("pairs"))) == 5
    assert sorted(r.key for r in again(store).records(PairRecord)) == [f"k{i}" for i in range(4)]


def test_readers_beside_a_writer_and_a_compactor(store):
    """A task that a reader saw complete stays complete while segments are replaced."""
    order = random.Random(0)
    reader, seen = again(store), set()
    for i in range(60):
        store.publish_records([pair_record(f"k{i}", number=i)], term=1)
        if order.random() < 0.2:
            store.compact("pairs", term=1)
        if order.random() < 0.5:
            now = reader.completed("pairs")
            assert seen <= now
            seen = now
    assert reader.completed("pairs") == {f"k{i}" for i in range(60)}


def test_pandas_and_duckdb_read_it_without_our_code(tmp_path):
    """Segments are plain Parquet files with plain columns."""
    store = Store(open_objects(str(tmp_path)))
    for i in range(3):
        store.publish_records([pair_record(f"k{i}", number=i, pair=(0, i + 1))], term=1)
    folder = tmp_path / "records" / "pairs"
    table = pd.concat(pd.read_parquet(file) for file in folder.glob("*.parquet"))
    assert sorted(table["height"]) == [1.0, 2.0, 3.0]
    query = f"select j, height, len(losses) from '{folder}/*.parquet' order by j"
    assert duckdb.sql(query).fetchall() == [(1, 1.0, 3), (2, 2.0, 3), (3, 3.0, 3)]
