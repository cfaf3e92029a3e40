"""Records in immutable segments: a store holds from a few to half a million records.

A segment is a Parquet file of records of one kind. It counts once the driver has committed its name
(`commit_log.py`). Several segments may have a record of the same key, because two workers executed the same
task. Then the record that was committed first counts, so that a result does not change after others were
computed from it.

Compaction copies records into few large segments. It publishes the copies, commits them in place of the
originals, and deletes the originals. It may be interrupted at any point.
"""

import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workers.storage import object_names as layout
from workers.storage.commit_log import CommitLog
from workers.storage.immutable_objects import Damage, Damaged, ImmutableObjects
from workers.storage.object_names import ObjectName
from workers.storage.objects import NotFound, StoreUnreachable
from workers.storage.record_files import (
    decode_pieces,
    decode_table,
    empty_table,
    encode_records,
    encode_tables,
    strings,
)
from workers.storage.schema import KINDS, ResultRecord, arrow_schema
from workers.tasks.results import Segment

COMPACTED_BYTES = 64 << 20
"""Target size in bytes of a compacted segment: large enough for few requests, small enough to fit in
memory."""

_ROWS_OF_A_GROUP = 32_768

_OPEN_SEGMENTS = 64
"""Number of segments that a compaction holds open; an open file of one record takes 130 kB of memory."""

_ATTEMPTS = 10
"""Attempts to read the segments of a commit: each fails if a compaction deletes one meanwhile."""


class Segments:
    """The records of one run."""

    def __init__(self, published: ImmutableObjects, log: CommitLog) -> None:
        self._published, self._log = published, log
        # The columns that were read, by segment. Columns of lists are not kept, because they are too large.
        self._known: dict[ObjectName, dict[str, pa.ChunkedArray]] = {}
        self._damaged: set[ObjectName] = set()

    def publish(self, records: Sequence[ResultRecord], worker: str, *, term: int) -> Segment:
        """Publish records as one segment.

        Args:
            records: at least one, all of one kind.
            worker: name of the worker that publishes them.
            term: of the driver's lease.
        """
        return self._publish(type(records[0]).collection, encode_records(records), worker, term)

    def rewrite(
        self, collection: str, parts: Iterable[Sequence[ResultRecord]], *, term: int
    ) -> None:
        """Replace all records of a collection; each part becomes a segment."""
        old = [str(name) for name in self._log.latest().of(collection)]
        new = [self.publish(part, "driver", term=term) for part in parts]
        self._log.replace(old, new, term=term)

    def count(self, collection: str) -> int:
        """The number of segments that count. The driver needs no request for it (`CommitLog.latest`)."""
        return len(self._log.latest().of(collection))

    def objects(self, names: Collection[str]) -> dict[str, str | None]:
        """Name of the object of each record in some segments, by key; None where a record has none.

        Args:
            names: of the segments; damaged ones are left out.
        """
        objects: dict[str, str | None] = {}
        for name in filter(None, map(layout.parse_name, names)):
            table = self._segment(name, _collection(name), {"key", "object"})
            if table is not None:
                pairs = (table.column(column).to_pylist() for column in ("key", "object"))
                objects.update(zip(*pairs, strict=True))
        return objects

    def table(
        self,
        collection: str,
        columns: Collection[str] | None = None,
        *,
        check_objects: bool = True,
    ) -> pa.Table:
        """The records that count, one for each key.

        Args:
            collection: of the records.
            columns: names of the columns to read; all by default. Columns that hold no lists are read once
                from a segment and remembered.
            check_objects: leave out records whose object is missing, which requires a listing of all objects.
        """
        kind = KINDS[collection]
        needed = None if columns is None else {*columns, "key", "object"}
        # An object is published before its record. So objects are listed after the segments are read: the
        # listing then has the objects of all records.
        tables = self._read_all(collection, needed)
        if not tables:
            return empty_table(kind, columns)
        whole = pa.concat_tables(tables)
        there = self._there(collection, whole) if check_objects else _all_true(len(whole))
        whole = whole.filter(_first_of_key(whole, there))
        return whole if columns is None else whole.select(_ordered(collection, columns))

    def compact(self, collection: str, *, term: int) -> list[str]:
        """Copy the records of small segments into few large ones and delete the small ones.

        Large segments are not read. They were compacted from earlier segments, so they precede the new ones
        in the commit, and of two records of one key the same one counts as before.

        Args:
            collection: of the records.
            term: of the lease that is held now.

        Returns:
            The names of the new segments; none if there are too few small ones.

        Raises:
            Fenced: another driver has taken the run over; nothing was deleted.
        """
        sizes = self._log.latest().of(collection)
        small = [name for name, size in sizes.items() if size < COMPACTED_BYTES // 2]
        if len(small) < 2:
            return []
        made, copied = [], []
        seen: set[str] = set()
        for group in _groups(small, sizes):
            data, done = self._copied(collection, group, seen)
            if data:
                made.append(self._publish(collection, data, "driver", term))
            copied += done
        self._log.replace([str(name) for name in copied], made, term=term)
        return [segment.name for segment in made]

    def missing(self, collection: str) -> list[str]:
        """Names of missing objects that a record names, unless another record of the same key has its
        object."""
        tables = self._read_all(collection, ("key", "object"))
        if not tables:
            return []
        whole = pa.concat_tables(tables)
        there = self._there(collection, whole)
        complete = pc.is_in(whole.column("key"), value_set=whole.column("key").filter(there))
        return sorted(set(whole.column("object").filter(pc.invert(complete)).to_pylist()))

    def forget(self, names: Collection[str]) -> None:
        """Forget that the segments with these names are damaged, because they were deleted."""
        self._damaged = {name for name in self._damaged if str(name) not in names}

    def _publish(self, collection: str, data: bytes, worker: str, term: int) -> Segment:
        stem = layout.segment_stem(term, worker, secrets.token_hex(6))
        folder = layout.records_folder(collection)
        return Segment(self._published.publish(folder, stem, "parquet", data), len(data))

    def _read_all(self, collection: str, columns: Collection[str] | None) -> list[pa.Table]:
        folder = layout.records_folder(collection)
        commit = self._log.latest()
        for _ in range(_ATTEMPTS):
            names = list(commit.of(collection))
            counting = set(names)
            for name in [n for n in self._known if n.folder == folder and n not in counting]:
                del self._known[name]
            try:
                read = self._published.each(lambda n: self._segment(n, collection, columns), names)
                return [table for table in read if table is not None]
            except NotFound:
                newer = self._log.latest()
                # The segment was lost, not compacted meanwhile.
                if newer.segments == commit.segments:
                    self._note_missing(names)
                commit = newer
        raise StoreUnreachable(
            f"{self._published.objects.url}/{folder} lists objects that cannot be read: check the store."
        )

    def _note_missing(self, names: Collection[ObjectName]) -> None:
        """Note as damaged those of the segments, which a commit names, that do not exist."""
        there = set(map(str, self._published.names(layout.RECORDS)))
        for name in names:
            if str(name) not in there:
                self._damaged.add(name)
                self._published.note(Damage(str(name), f"{name} is missing: the log names it"))

    def _segment(
        self, name: ObjectName, collection: str, columns: Collection[str] | None
    ) -> pa.Table | None:
        """The columns of a segment, in the order of the fields; None if it is damaged."""
        if name in self._damaged:
            return None
        kind = KINDS[collection]
        wanted = _ordered(collection, columns)
        known = dict(self._known.get(name, {}))
        missing = [column for column in wanted if column not in known]
        if missing:
            try:
                table = self._published.read(name, lambda data: decode_table(data, kind, missing))
            except Damaged:
                self._damaged.add(name)
                return None
            known |= {column: table.column(column) for column in missing}
            plain = {c: a for c, a in known.items() if not pa.types.is_nested(a.type)}
            self._known[name] = plain
        schema = arrow_schema(kind)
        return pa.table(
            [known[column] for column in wanted],
            schema=pa.schema([schema.field(column) for column in wanted], metadata=schema.metadata),
        )

    def _there(self, collection: str, table: pa.Table) -> pa.ChunkedArray:
        """Booleans [rows]: whether the object that a record names exists; true for a record that names
        none."""
        objects = table.column("object")
        none = pc.is_null(objects)
        if pc.all(none).as_py():
            return none
        listed = self._published.objects.list(KINDS[collection].folder)
        present = strings([info.name for info in listed])
        return pc.or_(none, pc.is_in(objects, value_set=present))

    def _copied(
        self, collection: str, names: Sequence[ObjectName], seen: set[str]
    ) -> tuple[bytes, list[ObjectName]]:
        """Copy the records of several segments into one, each key once.

        Args:
            collection: of the records.
            names: of the segments, in the order of the commit.
            seen: keys of the records that were copied from earlier segments; grows by those copied here.

        Returns:
            The bytes of the new segment, empty if there are no records, and the names of the segments
            copied: all but damaged ones, which `Store.repair` deletes.
        """
        kind = KINDS[collection]
        done: list[ObjectName] = []

        def pieces_of(name: ObjectName) -> Iterator[pa.Table] | None:
            try:
                return self._published.read(name, lambda data: decode_pieces(data, kind))
            except Damaged:
                return None

        def opened() -> Iterator[tuple[ObjectName, Iterator[pa.Table] | None]]:
            for start in range(0, len(names), _OPEN_SEGMENTS):
                part = names[start : start + _OPEN_SEGMENTS]
                yield from zip(part, self._published.each(pieces_of, part), strict=True)

        def pieces() -> Iterator[pa.Table]:
            for name, read in opened():
                if read is None:
                    continue
                done.append(name)
                for piece in read:
                    fresh = _unseen(piece.column("key"), seen)
                    if all(fresh):
                        yield piece
                    elif any(fresh):
                        yield piece.filter(pa.array(fresh))

        groups = _row_groups(pieces())
        first = next(groups, None)
        if first is None:
            return b"", done
        return encode_tables(_chain(first, groups)), done


def _collection(segment: ObjectName) -> str:
    return segment.folder.rpartition("/")[2]


def _all_true(count: int) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(np.ones(count, dtype=bool))])


def _ordered(collection: str, columns: Collection[str] | None) -> list[str]:
    names: list[str] = arrow_schema(KINDS[collection]).names
    return [name for name in names if columns is None or name in columns]


def _first_of_key(table: pa.Table, eligible: pa.ChunkedArray) -> pa.ChunkedArray:
    """Booleans [rows]: whether a row is the first of its key among the eligible rows."""
    keys = table.column("key")
    chosen = keys.filter(eligible)
    if len(pc.unique(chosen)) == len(chosen):
        return eligible
    rows = pa.array(np.arange(len(keys)))
    numbered = pa.table({"key": keys, "row": rows}).filter(eligible)
    firsts = numbered.group_by("key").aggregate([("row", "min")]).column("row_min")
    return pa.chunked_array([pc.is_in(rows, value_set=firsts)])


def _unseen(keys: pa.ChunkedArray, seen: set[str]) -> list[bool]:
    """For each row, whether its key is not in `seen`, to which it is then added."""
    fresh = []
    for key in keys.to_pylist():
        fresh.append(key not in seen)
        seen.add(key)
    return fresh


def _groups(
    names: Sequence[ObjectName], sizes: Mapping[ObjectName, int]
) -> Iterator[list[ObjectName]]:
    """Split segments, in order, into groups with a total size of about `COMPACTED_BYTES`."""
    group: list[ObjectName] = []
    total = 0
    for name in names:
        group.append(name)
        total += sizes[name]
        if total >= COMPACTED_BYTES:
            yield group
            group, total = [], 0
    if group:
        yield group


def _row_groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Concatenate tables to tables of at least `_ROWS_OF_A_GROUP` rows; the last one may have fewer."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(map(len, held)) >= _ROWS_OF_A_GROUP:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


def _chain(first: pa.Table, rest: Iterator[pa.Table]) -> Iterator[pa.Table]:
    yield first
    yield from rest
