"""The commit log against Delta Lake, on 499,500 records, in a folder and on an object store.

    python -m tests.benchmarks.commit_log runs/log                     # ours
    python -m tests.benchmarks.commit_log runs/delta --delta           # needs `pip install deltalake`
    python -m tests.benchmarks.commit_log runs/faults --requirements   # a fenced driver, a truncated commit

Both write records of pairs with profiles of twenty points. In both, a worker has written the file of records
before and only its name is committed: this is what is timed as a commit. Delta Lake has a transaction for
files that were written elsewhere, `create_write_transaction`.
"""

import argparse
import json
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from tests.helpers.records import pair_record
from workers.storage.objects import Objects
from workers.storage.open_objects import open_objects
from workers.storage.record_files import encode_tables, to_table
from workers.storage.run_store import Store
from workers.tasks.results import Segment

PROFILE_POINTS = 20
BULK = 1000
"""Records of a segment while the store is filled."""

COMMITS = 60
"""Commits that are timed, of 100 records and of one."""


class Log(Protocol):
    """A table of records that grows by files that somebody else has written."""

    def write(self, table: pa.Table) -> Any:
        """Write a file of records that does not count yet."""

    def commit(self, file: Any) -> None:
        """Let the records of a file count."""

    def compact(self) -> None:
        """Copy many files into few."""

    def read(self, columns: list[str] | None) -> pa.Table:
        """The records that count, as another process reads them."""


class Ours:
    """The commit log of a run's store."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._store = Store(open_objects(location))
        self._store.take_over(1)

    def write(self, table: pa.Table) -> Segment:
        data = encode_tables([table])
        name = f"records/pairs/00000001-w-{secrets.token_hex(6)}.{_digest(data)}.parquet"
        self._store.objects.put(name, data)
        return Segment(name, len(data))

    def commit(self, file: Segment) -> None:
        self._store.commit([file], term=1)

    def compact(self) -> None:
        self._store.compact("pairs", term=1)

    def read(self, columns: list[str] | None) -> pa.Table:
        return Store(open_objects(self._location)).table("pairs", columns)


class Delta:
    """A Delta Lake table, through delta-rs."""

    def __init__(self, location: str) -> None:
        import deltalake

        self._library, self._location = deltalake, location
        deltalake.write_deltalake(location, _records(1, 0).slice(0, 0), mode="overwrite")
        self._table = deltalake.DeltaTable(location)
        self._objects: Objects = open_objects(location)

    def write(self, table: pa.Table) -> Any:
        data = encode_tables([table])
        name = f"part-{secrets.token_hex(8)}.parquet"
        self._objects.put(name, data)
        statistics = json.dumps({"numRecords": len(table)})
        now = int(time.time() * 1000)
        action = self._library.transaction.AddAction(name, len(data), {}, now, True, statistics)
        return action, table.schema

    def commit(self, file: Any) -> None:
        action, schema = file
        self._table.create_write_transaction(
            [action], "append", self._library.Schema.from_arrow(schema)
        )
        self._table.update_incremental()

    def compact(self) -> None:
        self._table.optimize.compact()

    def read(self, columns: list[str] | None) -> pa.Table:
        return self._library.DeltaTable(self._location).to_pyarrow_table(columns=columns)


def measure(log: Log, location: str, count: int) -> Iterator[dict[str, Any]]:
    """Fill a log, then time commits, compaction and reads; figures by what was measured."""
    began = time.perf_counter()
    commits = []
    for first in range(0, count, BULK):
        file = log.write(_records(min(BULK, count - first), first))
        commits.append(_seconds(lambda: log.commit(file)))  # noqa: B023 - called at once
        if len(commits) % 256 == 0:
            commits.append(_seconds(log.compact))
    yield {"filled": count, "seconds": time.perf_counter() - began, "longest": max(commits)}
    for size in (100, 1):
        files = [log.write(_records(size, count + i * size)) for i in range(COMMITS)]
        spent = [_seconds(lambda: log.commit(file)) for file in files]  # noqa: B023
        yield {"commit of": size, "median_ms": 1e3 * median(spent), "max_ms": 1e3 * max(spent)}
        count += COMMITS * size
    for columns in (["key", "height"], None):
        began = time.perf_counter()
        rows = len(log.read(columns))
        yield {"read": columns or "all", "rows": rows, "seconds": time.perf_counter() - began}
    infos = open_objects(location).list()
    yield {"MB": sum(info.size for info in infos) / 1e6, "objects": len(infos)}


def requirements(folder: Path) -> Iterator[tuple[str, str]]:
    """What a commit of a fenced driver and a truncated commit do to a Delta Lake table."""
    from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

    rows = pa.table({"key": ["k"]})

    def of(term: int) -> CommitProperties:
        return CommitProperties(app_transactions=[Transaction("driver", term)])

    write_deltalake(folder, rows, commit_properties=of(1))
    fenced, successor = DeltaTable(folder), DeltaTable(folder)
    write_deltalake(successor, rows, mode="append", commit_properties=of(2))
    yield (
        "commit of a fenced driver",
        _outcome(lambda: write_deltalake(fenced, rows, mode="append", commit_properties=of(1))),
    )
    fenced.update_incremental()
    yield (
        "the same after it has read the table again",
        _outcome(lambda: write_deltalake(fenced, rows, mode="append", commit_properties=of(1))),
    )
    newest = max((folder / "_delta_log").glob("*.json"))
    newest.write_bytes(newest.read_bytes()[:-7])
    yield (
        "read after the newest commit was truncated",
        _outcome(lambda: DeltaTable(folder).to_pyarrow_table()),
    )


def _outcome(action: Callable[[], Any]) -> str:
    try:
        action()
    except Exception as error:
        return f"refused: {str(error).splitlines()[0]}"
    return "accepted"


def _records(count: int, first: int) -> pa.Table:
    """Records of pairs with made-up profiles; `first` numbers their keys."""
    draw = np.random.default_rng(first)
    table = to_table([pair_record("k")]).take(pa.array(np.zeros(count, dtype=int)))
    offsets = pa.array(np.arange(0, (count + 1) * PROFILE_POINTS, PROFILE_POINTS, dtype=np.int32))
    profile = pa.ListArray.from_arrays(offsets, pa.array(draw.random(count * PROFILE_POINTS)))
    keys = pa.array([f"{number:032x}" for number in range(first, first + count)])
    for name, column in {"key": keys, "losses": profile, "positions": profile}.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), column)
    return table


def _digest(data: bytes) -> str:
    from workers.storage.object_names import content_digest

    return content_digest(data)


def _seconds(action: Callable[[], None]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("location")
    parser.add_argument("--records", type=int, default=499_500)
    parser.add_argument("--delta", action="store_true")
    parser.add_argument("--requirements", action="store_true")
    options = parser.parse_args()
    if options.requirements:
        for what, outcome in requirements(Path(options.location)):
            print(f"{what}: {outcome}", flush=True)
        return
    log: Log = Delta(options.location) if options.delta else Ours(options.location)
    for figures in measure(log, options.location, options.records):
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
