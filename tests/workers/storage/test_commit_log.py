"""The commit log of a run, on a folder and on object stores: which segments count, and who may commit."""

import contextlib
from collections import Counter

import pytest

from tests.helpers.records import pair_record
from workers.storage import object_names as layout
from workers.storage.commit_log import KEPT_COMMITS
from workers.storage.objects import Fenced, StoreUnreachable
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store


@pytest.fixture
def store(location):
    return Store(open_objects(location))


def again(store):
    """Another process's view of the same store."""
    return Store(open_objects(store.objects.url))


def published(store, *keys, term, worker="w", object_=None):
    """A segment that a worker has published and that is in no commit."""
    records = [pair_record(key, object_=object_) for key in keys]
    return store.publish_segment(records, term=term, worker=worker)


def counting(store):
    """Keys of the tasks that are complete, as another process reads them."""
    return again(store).completed("pairs")


def commits(store):
    return [info.name for info in store.objects.list(layout.LOG)]


def truncate(store, name):
    store.objects.put(name, store.objects.get(name)[:-7])


def test_only_committed_segments_count(store):
    """What a worker has published counts from the commit on, for the driver and for readers."""
    store.take_over(1)
    segment = published(store, "a", term=1)
    assert counting(store) == store.completed("pairs") == frozenset()
    store.commit([segment], term=1)
    assert counting(store) == store.completed("pairs") == {"a"}


def test_a_take_over_adopts_what_was_published_and_nothing_later(store):
    """A driver may die between a result and its commit: nothing is lost, and late results are excluded."""
    store.take_over(1)
    store.commit([published(store, "committed", term=1)], term=1)
    published(store, "in flight", term=1)
    again(store).take_over(2)
    published(store, "late", term=1)
    assert counting(store) == {"committed", "in flight"}
    again(store).repair()
    assert len(store.objects.list(layout.RECORDS)) == 2
    again(store).take_over(3)
    assert counting(store) == {"committed", "in flight"}


def test_a_fenced_driver_cannot_commit(store):
    """Its commit is refused, whether it knows of its successor or not, and changes nothing."""
    store.take_over(1)
    segment = published(store, "late", term=1)
    other = again(store)
    other.take_over(2)
    other.publish_records([pair_record("new")], term=2)
    for driver in (store, again(store)):
        with pytest.raises(Fenced, match="Another driver"):
            driver.commit([segment, published(store, "later", term=1)], term=1)
    assert "later" not in counting(store)
    assert "new" in counting(store)


def test_a_driver_that_slept_through_many_commits_is_fenced_or_ignored(store):
    """The name of its next commit may be free again by then: no reader looks at so old a commit."""
    store.take_over(1)
    other = again(store)
    other.take_over(2)
    for i in range(2 * KEPT_COMMITS):
        other.publish_records([pair_record(f"k{i}")], term=2)
    with contextlib.suppress(Fenced):
        store.commit([published(store, "late", term=1)], term=1)
    assert counting(store) == {f"k{i}" for i in range(2 * KEPT_COMMITS)}
    again(store).take_over(3)
    assert counting(store) == {f"k{i}" for i in range(2 * KEPT_COMMITS)}


def test_an_adopted_record_does_not_replace_a_committed_one(store):
    """A worker that was taken for lost publishes a task that was done again: the committed record stays."""
    store.take_over(1)
    store.publish_records([pair_record("k", number=1)], term=1)
    store.publish_segment([pair_record("k", number=2)], term=1, worker="lost")
    again(store).take_over(2)
    for i in range(3):
        assert again(store).figures("pairs")["k"] == 2.0  # 1 + number
        store = again(store)
        store.publish_records([pair_record(f"other {i}")], term=2)
        store.compact("pairs", term=2)
    assert again(store).segment_count("pairs") == 1


@pytest.mark.parametrize("damaged", [1, 2, 3])
def test_damaged_commits_lose_nothing_and_admit_no_late_segment(store, damaged):
    """One or two truncated commits: late segments stay out, and the next driver finds the others again.

    If all are damaged, every segment counts that exists.
    """
    store.publish_records([pair_record("first")], term=1)
    store.take_over(2)
    published(store, "late", term=1)
    store.publish_records([pair_record("second")], term=2)
    assert len(commits(store)) == KEPT_COMMITS
    for name in commits(store)[-damaged:]:
        truncate(store, name)
    fresh = again(store)
    assert {d.name for d in fresh.verify()} == set(commits(store)[-damaged:])
    again(store).take_over(3)
    late = {"late"} if damaged == KEPT_COMMITS else set()
    assert counting(store) == {"first", "second"} | late
    assert again(store).verify() == []


def test_segments_of_a_lost_worker_are_adopted(store):
    """Those of the others wait for their results; a worker's name may hold any characters."""
    store.take_over(1)
    for worker in ("node/7.a", "node/7.b"):
        published(store, f"by {worker}", term=1, worker=worker, object_=None)
    assert store.adopt_segments(["node/7.a"], term=1) == {"by node/7.a": None}
    assert counting(store) == {"by node/7.a"}
    assert store.adopt_segments(["node/7.a"], term=1) == {}
    assert store.adopt_segments(term=1) == {"by node/7.b": None}


def test_copied_segments_do_not_come_back(store, monkeypatch):
    """A driver that dies before it has deleted the originals of a compaction leaves no second records."""
    store.take_over(1)
    for i in range(3):
        store.publish_records([pair_record(f"k{i}")], term=1)
    with monkeypatch.context() as patch:
        patch.setattr(
            "workers.storage.immutable_objects.ImmutableObjects.delete", lambda self, names: None
        )
        (made,) = store.compact("pairs", term=1)
        assert len(store.objects.list(layout.RECORDS)) == 4
    again(store).take_over(2)
    assert [info.name for info in store.objects.list(layout.RECORDS)] == [made]
    assert counting(store) == {"k0", "k1", "k2"}


def test_a_missing_segment_is_reported_and_the_others_count(store):
    """After a segment was deleted its tasks are not complete, and the next driver continues without it."""
    lost = store.publish_records([pair_record("lost")], term=1)
    store.take_over(2)
    store.publish_records([pair_record("here")], term=2)
    store.objects.delete(lost)
    fresh = again(store)
    assert fresh.completed("pairs") == {"here"}
    assert [d.name for d in fresh.damage()] == [lost]
    again(store).take_over(3)
    assert again(store).verify() == []


class Counting:
    """The objects of a store, and how often each kind of request was made."""

    def __init__(self, objects):
        self.objects, self.requests, self.fails = objects, Counter(), set()

    def __getattr__(self, name):
        self.requests[name] += 1
        if name in self.fails:
            raise StoreUnreachable(name)
        return getattr(self.objects, name)


def test_no_event_costs_more_requests_in_a_larger_run(tmp_path):
    """A finished pack, a failed task, a lost worker and a lazy round: the same few requests whether the run
    has 2 or 300 segments and paths, and none but a lost worker lists."""
    costs = []
    for size in (2, 300):
        counted = Counting(open_objects(str(tmp_path / str(size))))
        store, worker = Store(counted), Store(counted.objects)
        store.take_over(1)
        for i in range(size):
            name = worker.publish_path(f"{i}", {})
            store.commit([published(worker, f"{i}", term=1, object_=name)], term=1)
        store.figures("pairs")
        pack = published(worker, "pack", term=1)
        published(worker, "flushed", term=1, worker="lost")
        events = {
            "pack": lambda: store.commit([pack], term=1),  # noqa: B023 - called at once
            "round": lambda: store.figures("pairs"),  # noqa: B023
            "failure": lambda: store.publish_failure("f", {"kind": "bug"}, term=1),  # noqa: B023
            "loss": lambda: store.adopt_segments(["lost"], term=1),  # noqa: B023
        }
        cost = {}
        for event, act in events.items():
            counted.requests.clear()
            act()
            cost[event] = dict(counted.requests)
        costs.append(cost)
    assert costs[0] == costs[1]
    assert costs[0] == {
        "pack": {"create": 1, "delete": 1},
        "round": {"get": 1},  # of the segment that is new
        "failure": {"put": 1},
        "loss": {"list": 1, "get": 1, "create": 1, "delete": 1},
    }


def test_a_commit_that_was_written_is_not_repeated(tmp_path):
    """The store goes away after the commit, before the old one is deleted: the commit has succeeded, and
    called again it writes nothing."""
    counted = Counting(open_objects(str(tmp_path)))
    store = Store(counted)
    store.take_over(1)
    for key in "ab":
        store.publish_records([pair_record(key)], term=1)
    segment = published(store, "c", term=1)
    counted.fails = {"delete"}
    store.commit([segment], term=1)
    counted.fails = set()
    before = commits(store)
    store.commit([segment], term=1)
    assert commits(store) == before
    assert counting(store) == {"a", "b", "c"}
