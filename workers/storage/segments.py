"""Records in immutable segments: what is complete, at half a million records as at six.

A segment is a Parquet file of many records of one kind; its name begins with the lease epoch of the
driver whose worker published it. Records of one key may lie in several segments (a worker was lost
after it had published, a compaction was interrupted): the first by name counts.

**Fencing.** A driver that took the run over writes down, once, which segments of earlier epochs exist:
`run/accepted-<its epoch>`. From then on a segment counts if its epoch is at least that of the newest
such book, or if the book lists it. So what a former driver's workers still publish is passed over,
without any of them having to know.

**Compaction.** Records are copied into few large segments and the copied segments deleted, in this
order: publish the copies, confirm that the lease is still held, delete. Who takes the lease later finds
the copies when it opens its book, so a driver may be stopped for any time between confirming and
deleting without anything being lost; killed anywhere, it leaves at worst both, and keys are unique.
"""

import secrets
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workers.storage import object_names as layout
from workers.storage.immutable_objects import Damaged, Published, json_bytes
from workers.storage.object_names import Name
from workers.storage.objects import NotFound, StoreUnreachable
from workers.storage.schema import (
    KINDS,
    Record,
    arrow_schema,
    decode_pieces,
    decode_table,
    empty_table,
    encode_records,
    encode_tables,
    strings,
)

COMPACTED_BYTES = 64 << 20
"""Size that compacted segments aim at: few requests, and each still fits any memory."""

_ROWS_OF_A_GROUP = 32_768

_LISTINGS = 10
"""How often segments may be deleted between listing and reading before the store makes no sense."""

_BOOK = "accepted-"


class Segments:
    """The records of one run."""

    def __init__(self, published: Published) -> None:
        self._published = published
        # Columns of plain values that were asked for, by segment; lists would fill the memory.
        self._known: dict[Name, dict[str, pa.ChunkedArray]] = {}
        self._damaged: set[Name] = set()

    def publish(self, records: Sequence[Record], *, epoch: int) -> str:
        """Publish records, at least one and all of one kind, as one segment."""
        return self._publish(type(records[0]).collection, encode_records(records), epoch)

    def table(self, collection: str, columns: Collection[str] | None = None) -> pa.Table:
        """The records that count, one a key, of tasks whose object is there.

        Args:
            columns: names of the columns to read; all by default. Columns of plain values are read from
                a segment once and remembered.
        """
        kind = KINDS[collection]
        needed = None if columns is None else {*columns, "key", "object"}
        # Objects are listed after segments: an object is published before its record.
        tables = self._read_all(collection, needed)
        if not tables:
            return empty_table(kind, columns)
        whole = pa.concat_tables(tables)
        whole = whole.filter(_first_of_key(whole, self._there(collection, whole)))
        return whole if columns is None else whole.select(_ordered(collection, columns))

    def fence(self, epoch: int) -> None:
        """Open the book of a new lease: what former ones have published so far counts, nothing later.

        Args:
            epoch: of the lease that is held now.
        """
        found = self._published.names(layout.RECORDS)
        earlier = [str(name) for name in self._accepted(found) if name.epoch < epoch]
        stem = _BOOK + layout.epoch_stem(epoch)
        self._published.publish(layout.RUN, stem, "json", json_bytes({"segments": earlier}))

    def late(self) -> list[Name]:
        """Segments that came after their driver was fenced off."""
        found = self._published.names(layout.RECORDS)
        accepted = set(self._accepted(found))
        return [name for name in found if name not in accepted]

    def compact(self, collection: str, *, epoch: int, confirm: Callable[[], None]) -> list[str]:
        """Copy the records that count into few segments and delete the others.

        Args:
            epoch: of the lease that is held now.
            confirm: raises if that lease has been lost; it must ask the store, not its memory.

        Returns:
            The names of the new segments; none if there was nothing to gain.
        """
        folder = layout.records_folder(collection)
        sizes = {info.name: info.size for info in self._published.objects.list(folder)}
        names = self._accepted([n for n in self._published.names(folder) if str(n) in sizes])
        small = [n for n in names if sizes[str(n)] < COMPACTED_BYTES // 2]
        if len(small) < 2:
            return []
        wanted = self._first_rows(collection, names)
        made, copied = [], []
        for group in _groups(small, sizes):
            data, done = self._copied(collection, group, wanted)
            if data:
                made.append(self._publish(collection, data, epoch))
            copied += done
        confirm()
        self._published.delete(copied)
        return made

    def missing(self, collection: str) -> list[str]:
        """Objects that records name and that are not there, of keys without another record."""
        tables = self._read_all(collection, ("key", "object"))
        if not tables:
            return []
        whole = pa.concat_tables(tables)
        there = self._there(collection, whole)
        complete = pc.is_in(whole.column("key"), value_set=whole.column("key").filter(there))
        return sorted(set(whole.column("object").filter(pc.invert(complete)).to_pylist()))

    def forget(self, names: Collection[str]) -> None:
        """Read these again if they are there at all: they were deleted."""
        self._damaged = {name for name in self._damaged if str(name) not in names}

    def _publish(self, collection: str, data: bytes, epoch: int) -> str:
        stem = layout.segment_stem(epoch, secrets.token_hex(6))
        return self._published.publish(layout.records_folder(collection), stem, "parquet", data)

    def _accepted(self, names: Sequence[Name]) -> list[Name]:
        """Those of the segments that count.

        The books are listed after the segments, so a segment that came late is never seen without the
        book that leaves it out.
        """
        books = [n for n in self._published.names(layout.RUN) if n.stem.startswith(_BOOK)]
        for book in reversed(books):
            content = self._published.read_json(book)
            if content is not None:
                listed = set(content["segments"])
                return [n for n in names if n.epoch >= book.epoch or str(n) in listed]
        return list(names)

    def _read_all(self, collection: str, columns: Collection[str] | None) -> list[pa.Table]:
        folder = layout.records_folder(collection)
        for _ in range(_LISTINGS):
            names = self._accepted(self._published.names(folder))
            listed = set(names)
            for name in [n for n in self._known if n.folder == folder and n not in listed]:
                del self._known[name]
            try:
                read = self._published.each(lambda n: self._segment(n, collection, columns), names)
                return [table for table in read if table is not None]
            except NotFound:  # compacted while we looked: its records are elsewhere now
                continue
        raise StoreUnreachable(f"{self._published.objects.url}/{folder} lists what is not there.")

    def _segment(
        self, name: Name, collection: str, columns: Collection[str] | None
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
        """Whether the object that a record names is in the store; true where it names none."""
        objects = table.column("object")
        none = pc.is_null(objects)
        if pc.all(none).as_py():
            return none
        listed = self._published.objects.list(layout.OBJECTS_OF[collection])
        present = strings([info.name for info in listed])
        return pc.or_(none, pc.is_in(objects, value_set=present))

    def _first_rows(self, collection: str, names: Sequence[Name]) -> dict[Name, pa.ChunkedArray]:
        """For each segment, which of its rows count."""
        tables = {}
        for name in names:
            if (table := self._segment(name, collection, {"key", "object"})) is not None:
                tables[name] = table
        if not tables:
            return {}
        whole = pa.concat_tables(tables.values())
        counts = _first_of_key(whole, self._there(collection, whole))
        rows, start = {}, 0
        for name, table in tables.items():
            rows[name] = counts.slice(start, len(table))
            start += len(table)
        return rows

    def _copied(
        self, collection: str, names: Sequence[Name], rows: dict[Name, pa.ChunkedArray]
    ) -> tuple[bytes, list[Name]]:
        """A segment of the given rows of others (no bytes if there are none), and whose they are."""
        kind = KINDS[collection]
        done: list[Name] = []

        def pieces() -> Iterator[pa.Table]:
            for name in names:
                if name not in rows:  # damaged: left for whoever repairs the store
                    continue
                read = self._published.read(name, lambda data: decode_pieces(data, kind))
                done.append(name)
                start = 0
                for piece in read:
                    counts = rows[name].slice(start, len(piece))
                    start += len(piece)
                    if (kept := piece.filter(counts)).num_rows:
                        yield kept

        groups = _row_groups(pieces())
        first = next(groups, None)
        if first is None:
            return b"", done
        return encode_tables(_chain(first, groups)), done


def _ordered(collection: str, columns: Collection[str] | None) -> list[str]:
    names: list[str] = arrow_schema(KINDS[collection]).names
    return [name for name in names if columns is None or name in columns]


def _first_of_key(table: pa.Table, eligible: pa.ChunkedArray) -> pa.ChunkedArray:
    """Which rows are the first of their key among the eligible ones."""
    keys = table.column("key")
    chosen = keys.filter(eligible)
    if len(pc.unique(chosen)) == len(chosen):
        return eligible
    rows = pa.array(np.arange(len(keys)))
    numbered = pa.table({"key": keys, "row": rows}).filter(eligible)
    firsts = numbered.group_by("key").aggregate([("row", "min")]).column("row_min")
    return pa.chunked_array([pc.is_in(rows, value_set=firsts)])


def _groups(names: Sequence[Name], sizes: dict[str, int]) -> Iterator[list[Name]]:
    """Neighbours that together have about the size that compacted segments aim at."""
    group: list[Name] = []
    total = 0
    for name in names:
        group.append(name)
        total += sizes[str(name)]
        if total >= COMPACTED_BYTES:
            yield group
            group, total = [], 0
    if group:
        yield group


def _row_groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Tables put together until they are worth a row group."""
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
