"""The store of a run, which alone defines which tasks are complete.

A task is complete if its record is in a committed segment (`segments.py`, `commit_log.py`) and the object
that the record names exists. Segments and objects are immutable, and their names contain the digest of their
bytes (`immutable_objects.py`). So publishing twice is harmless, and every read is checked. A damaged object
counts as absent: it is reported, no result uses it, and the next start of the run computes it again.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import compress, islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from workers.storage import object_names as layout
from workers.storage.commit_log import CommitLog
from workers.storage.failures import Failures
from workers.storage.immutable_objects import Damage, Damaged, ImmutableObjects, json_bytes
from workers.storage.objects import AlreadyExists, NotFound, Objects
from workers.storage.record_files import strings, to_records
from workers.storage.schema import KINDS, R, ResultRecord, arrow_schema, list_columns
from workers.storage.segments import Segments
from workers.storage.tensor_store import Checkpoint, TensorStore
from workers.tasks.results import Segment

__all__ = ["Checkpoint", "Damage", "Damaged", "Store"]

_KEYS_AT_ONCE = 1 << 17  # a few MB of keys

REPAIR_BYTES = 2 << 30
"""Largest size in bytes of a store in a folder that is checked completely whenever its run is started:
reading it takes seconds."""


class Store(TensorStore):
    """Typed access to the objects of one run."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        super().__init__(ImmutableObjects(objects))
        self._log = CommitLog(self._published)
        self._segments = Segments(self._published, self._log)
        self._failures = Failures(self._published, self._log)

    # Records.

    def publish_segment(
        self, records: Sequence[ResultRecord], *, term: int, worker: str
    ) -> Segment:
        """Publish records as one segment, for the driver to commit.

        Args:
            records: at least one, all of one kind.
            term: of the driver's lease.
            worker: name of the worker that publishes them.
        """
        return self._segments.publish(records, worker, term=term)

    def commit(self, segments: Iterable[Segment], *, term: int) -> None:
        """Commit published segments: their records count from then on, so that their tasks are complete.

        Args:
            segments: of workers; those that are committed already change nothing.
            term: of the lease that is held now.

        Raises:
            Fenced: another driver has taken the run over.
        """
        self._log.commit(segments, term=term)

    def publish_records(self, records: Sequence[ResultRecord], *, term: int) -> str:
        """Publish records of one kind as one segment and commit it; returns its name.

        Args:
            records: at least one, all of one kind.
            term: of the lease that is held now.

        Raises:
            Fenced: another driver has taken the run over.
        """
        segment = self.publish_segment(records, term=term, worker="driver")
        self.commit([segment], term=term)
        return segment.name

    def adopt_segments(
        self, workers: Collection[str] | None = None, *, term: int
    ) -> dict[str, str | None]:
        """Commit segments that workers have published in this term but could not report to the driver.

        Args:
            workers: names of the workers; None for all.
            term: of the lease that is held now.

        Returns:
            Name of the object of each task that is complete now, by key; None where a task has none.

        Raises:
            Fenced: another driver has taken the run over.
        """
        escaped = None if workers is None else set(map(layout.escaped, workers))
        return self._segments.objects(self._log.adopt(escaped, term=term))

    def rewrite(
        self, collection: str, parts: Iterable[Sequence[ResultRecord]], *, term: int
    ) -> None:
        """Replace all records of a collection.

        Args:
            collection: of the records.
            parts: the new records; each part becomes a segment.
            term: of the lease that is held now.

        Raises:
            Fenced: another driver has taken the run over; nothing was deleted.
        """
        self._segments.rewrite(collection, parts, term=term)

    def segment_count(self, collection: str) -> int:
        """The number of committed segments of a collection."""
        return self._segments.count(collection)

    def table(self, collection: str, columns: Collection[str] | None = None) -> pa.Table:
        """The records of complete tasks as an Arrow table, with one row for each key.

        Args:
            collection: `minima`, `pairs`, `simplices` or `saddles`.
            columns: names of the columns to read; all by default. Half a million profiles fill gigabytes, so
                name only the columns that are needed.
        """
        return self._segments.table(collection, columns)

    def records(self, kind: type[R], *, lists: bool = True) -> list[R]:
        """The records of complete tasks of one kind, one for each key.

        Args:
            kind: of the records.
            lists: whether columns of lists (profiles, histories) are read; if not, they are empty.
        """
        columns = None
        if not lists:
            columns = set(arrow_schema(kind).names) - set(list_columns(kind))
        return to_records(self.table(kind.collection, columns), kind)

    def figures(self, collection: str) -> dict[str, float]:
        """Loss of each minimum or saddle, height of each path or value of each simplex, by key of the task.

        Whether the objects exist is not checked, so the cost of the requests does not depend on their number.
        """
        column = KINDS[collection].figure_column
        table = self._segments.table(collection, ("key", column), check_objects=False)
        return dict(
            zip(table.column("key").to_pylist(), table.column(column).to_pylist(), strict=True)
        )

    def results(
        self, collection: str, keys: Collection[str] | None = None, *, check_objects: bool = True
    ) -> dict[str, str | None]:
        """Name of the object of each complete task, by key; None where a task has none.

        Args:
            collection: of the records.
            keys: of the tasks to look up; all by default.
            check_objects: leave out tasks whose object is missing, which requires a listing of all objects.
                If false, the number of requests does not depend on the number of objects.
        """
        table = self._segments.table(collection, ("key", "object"), check_objects=check_objects)
        if keys is not None:
            table = table.filter(pc.is_in(table.column("key"), value_set=strings([*keys])))
        return dict(
            zip(table.column("key").to_pylist(), table.column("object").to_pylist(), strict=True)
        )

    def completed(self, collection: str, *, deep: bool = False) -> frozenset[str]:
        """Keys of the tasks that are complete.

        Args:
            collection: of the records.
            deep: read every object, and leave out the tasks whose object is damaged. By default only the
                existence of the object is checked.
        """
        table = self.table(collection, ("key", "object"))
        if deep:
            names = [layout.parse_name(n) for n in table.column("object").to_pylist() if n]
            damage = self._published.verify(name for name in names if name is not None)
            bad = {item.name for item in damage}
            pairs = zip(
                table.column("key").to_pylist(), table.column("object").to_pylist(), strict=True
            )
            return frozenset(key for key, name in pairs if name not in bad)
        return frozenset(table.column("key").to_pylist())

    def are_complete(self, collection: str, keys: Iterable[str]) -> bytearray:
        """For each of the keys, in order, 1 if its task is complete and 0 if not.

        Keys are consumed in pieces of `_KEYS_AT_ONCE`, so that half a million of them are never in memory at
        once.
        """
        stored = self.table(collection, ("key",)).column("key")
        answers, rest = bytearray(), iter(keys)
        while piece := list(islice(rest, _KEYS_AT_ONCE)):
            complete = pc.is_in(strings(piece), value_set=stored)
            answers.extend(complete.to_pylist())
        return answers

    def count(self, collection: str) -> int:
        """The number of complete tasks."""
        return len(self.table(collection, ("key",)))

    def delete_objects(self, names: Iterable[str]) -> None:
        """Delete tensors that no record names any more."""
        self._published.delete(names)

    def take_over(self, term: int) -> None:
        """Begin a lease term: segments that workers of earlier drivers have published so far count, later
        ones do not.

        Afterwards only this object may commit, and it does not read the commit log again.

        Args:
            term: of the lease that is held now.

        Raises:
            Fenced: another driver has taken the run over.
        """
        self._log.take_over(term, lambda state: self._failures.carry_over(state, term))
        self._published.delete(self._failures.late())

    def compact(self, collection: str, *, term: int) -> list[str]:
        """Copy the records of many small segments into few large ones, then delete the small ones.

        It may be interrupted at any point without loss.

        Args:
            collection: of the records.
            term: of the lease that is held now.

        Returns:
            The names of the new segments; none if there are too few small ones.

        Raises:
            Fenced: another driver has taken the run over; nothing was deleted.
        """
        # A new `Segments`: the columns that `self._segments` remembers must not be changed by another thread.
        return Segments(self._published, self._log).compact(collection, term=term)

    # Failures and configurations.

    def publish_failure(self, key: str, failure: Mapping[str, Any], *, term: int) -> None:
        """Publish why a task failed; it replaces what earlier terms published about that task.

        Args:
            key: of the task.
            failure: values that JSON can encode.
            term: of the lease that is held now.
        """
        self._failures.publish(key, failure, term=term)

    def failures(self) -> dict[str, dict[str, Any]]:
        """The failures of tasks that are not complete, by key of the task."""
        failures = self._failures.read()
        keys = list(failures)
        for collection in KINDS if failures else ():
            complete = self.are_complete(collection, keys)
            for key in compress(keys, complete):
                failures.pop(key, None)
        return failures

    def clear_failures(self) -> int:
        """Delete all failures, so that the tasks are tried again; returns the number of failures that
        counted.

        Only the holder of the lease may call it.
        """
        return self._failures.clear()

    def publish_config(self, config: Mapping[str, Any], *, term: int) -> None:
        """Publish the configuration of a driver: its run file, evaluation settings and provenance.

        Args:
            config: values that JSON can encode.
            term: of the lease that is held now.
        """
        stem = f"config-{layout.numbered(term)}"
        self._published.publish(layout.RUN, stem, "json", json_bytes(config))

    def latest_config(self) -> dict[str, Any] | None:
        """The newest readable configuration; None for a run that was never started."""
        names = [n for n in self._published.names(layout.RUN) if n.stem.startswith("config-")]
        for name in reversed(names):
            if (value := self._published.read_json(name)) is not None:
                return value
        return None

    def device_settings(self, key: str) -> dict[str, Any] | None:
        """The evaluation settings for a kind of device; None if there are none, or if they are damaged.

        Args:
            key: hash of the kind of device.
        """
        try:
            return dict(json.loads(self.objects.get(layout.device_settings_name(key))))
        except (NotFound, ValueError, TypeError):
            return None

    def publish_device_settings(self, key: str, settings: dict[str, Any]) -> dict[str, Any]:
        """Publish the evaluation settings for a kind of device, unless there are some.

        Returns:
            The settings in the store: these, or those that another worker has published before.
        """
        try:
            self.objects.create(layout.device_settings_name(key), json_bytes(settings))
        except AlreadyExists:
            return self.device_settings(key) or settings
        return settings

    # Damage.

    def damage(self) -> list[Damage]:
        """The known damaged objects that were not deleted since, sorted by name."""
        return self._published.damage

    def verify(self, prefix: str = "") -> list[Damage]:
        """Check every object below a folder against the digest in its name, all commits, and all records.

        Args:
            prefix: the folder; all objects of the run by default.

        Returns:
            Damaged objects, and missing objects that a record names.
        """
        self._published.verify(self._published.names(prefix))
        for damage in self._log.damage():
            self._published.note(damage)
        for collection in KINDS:
            for name in self._segments.missing(collection):
                self._published.note(Damage(name, f"{name} is missing: a record names it"))
        return self.damage()

    def repair(self) -> list[Damage]:
        """Find and delete damaged objects, so that the next tasks compute them again.

        In a folder of up to `REPAIR_BYTES` every object is read. In a larger folder and in a bucket, only
        records, minima, failures and configurations are read. Hidden files of killed writers, and segments
        and failures that can never count, are deleted as well. Intact files of unknown versions are kept.

        Only the holder of the lease may call it.

        Returns:
            The damaged objects that were deleted.
        """
        self.objects.sweep()
        self._published.delete([*self._log.late(), *self._failures.late()])
        small = sum(info.size for info in self.objects.list()) <= REPAIR_BYTES
        everything = small and "://" not in self.objects.url
        folders = (layout.RECORDS, layout.MINIMA, layout.FAILURES, layout.RUN)
        damage: list[Damage] = []
        for folder in ("",) if everything else folders:
            damage += self._published.verify(self._published.names(folder))
        self.discard(damage)
        return damage

    def discard(self, damage: Iterable[Damage]) -> None:
        """Delete damaged objects; their tasks are not complete afterwards."""
        names = [item.name for item in damage]
        self._published.delete(names)
        self._segments.forget(names)
