"""Single requests that fail, and a store that stops answering, while many objects are read or deleted."""

import itertools
import time

import pytest

from tests.helpers.memory_objects import MemoryObjects
from tests.helpers.records import pair_record
from workers.storage.commit_log import KEPT_COMMITS
from workers.storage.object_names import RECORDS
from workers.storage.objects import StoreUnreachable
from workers.storage.run_store import Store


class Failing(MemoryObjects):
    """A store in which some requests get no answer.

    Attributes:
        fails: called with the kind of each request; whether it fails.
        requests: number of requests that failed.
    """

    def __init__(self):
        super().__init__()
        self.fails = lambda kind: False
        self.failed = 0

    def _answer(self, kind):
        if self.fails(kind):
            self.failed += 1
            raise StoreUnreachable("503")

    def get(self, name):
        self._answer("get")
        return super().get(name)

    def delete(self, name):
        self._answer("delete")
        super().delete(name)


def filled(count):
    """A store with many segments of one record."""
    objects = Failing()
    store = Store(objects)
    store.take_over(1)
    segments = [
        store.publish_segment([pair_record(f"{n:032x}")], term=1, worker="w") for n in range(count)
    ]
    store.commit(segments, term=1)
    return objects, store


def test_reads_succeed_although_single_requests_fail():
    """Of 300 segments each tenth request fails: one call reads all of them."""
    objects, store = filled(300)
    turn = itertools.count()
    objects.fails = lambda kind: kind == "get" and next(turn) % 10 == 0
    assert store.count("pairs") == 300
    assert objects.failed >= 30


def test_reads_end_soon_when_the_store_is_away():
    """Nothing answers: the call fails after a few requests, not after one for each of 300 segments."""
    objects, store = filled(300)
    objects.fails = lambda kind: time.sleep(0.005) is None
    with pytest.raises(StoreUnreachable):
        store.count("pairs")
    assert objects.failed < 150


def test_segments_that_could_not_be_deleted_are_deleted_by_the_next_compaction():
    """An outage while compacted segments are deleted leaves them behind; the next compaction deletes them,
    and commits do not name them any longer. Old commits are deleted by the next driver."""
    objects, store = filled(20)
    objects.fails = lambda kind: kind == "delete"
    store.compact("pairs", term=1)
    assert len(objects.list(RECORDS)) == 21
    objects.fails = lambda kind: False
    store.publish_records([pair_record("f" * 32)], term=1)
    store.compact("pairs", term=1)
    assert len(objects.list(RECORDS)) == 1
    store.publish_records([pair_record("e" * 32)], term=1)
    newest = objects.get(objects.list("log")[-1].name).decode()
    assert newest.count("records/pairs") == 2
    assert store.count("pairs") == 22
    assert len(objects.list("log")) == KEPT_COMMITS + 1
    Store(objects).take_over(2)
    assert len(objects.list("log")) == KEPT_COMMITS
