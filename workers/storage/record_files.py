"""Convert records to Arrow tables and Parquet files, and back."""

import io
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from workers.storage.schema import (
    SCHEMA_VERSION,
    VERSION_KEY,
    R,
    ResultRecord,
    SchemaError,
    arrow_schema,
    list_columns,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_FEW_ROWS = 100
"""Up to this many rows, dictionaries and statistics of the columns are not worth their bytes, and threads not
their start: a file of one record is a third smaller without them."""


def to_table(records: Sequence[ResultRecord]) -> pa.Table:
    """Records as a table with a row for each.

    Args:
        records: at least one, all of one kind.
    """
    kind = type(records[0])
    columns = {f.name: [getattr(r, f.name) for r in records] for f in fields(kind)}
    return pa.table(columns, schema=arrow_schema(kind))


def to_records(table: pa.Table, kind: type[R]) -> list[R]:
    """The rows of a table as records of a kind.

    Lists become tuples. A list whose column is missing is empty; another missing column has its default.

    Raises:
        SchemaError: a column without a default is missing.
    """
    lists, columns = list_columns(kind), {}
    for item in fields(kind):
        if item.name in table.column_names:
            values = _values(table.column(item.name))
            columns[item.name] = [*map(tuple, values)] if item.name in lists else values
        elif item.name in lists:
            columns[item.name] = [()] * len(table)
        elif item.default is not MISSING:
            columns[item.name] = [item.default] * len(table)
        else:
            raise SchemaError(f"{kind.__name__} has no {item.name} without its column")
    return [_record(kind, columns, row) for row in zip(*columns.values(), strict=True)]


def _record(kind: type[R], names: Iterable[str], row: Iterable[Any]) -> R:
    """A record, created without its constructor: the constructor of a frozen class takes ten times as
    long."""
    record = object.__new__(kind)
    record.__dict__.update(zip(names, row, strict=True))
    return record


def _values(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column. Equal strings share one object: half a million may have a few thousand
    values."""
    if pa.types.is_timestamp(column.type):  # converted here, since Arrow would import pandas for it
        since = column.cast(pa.int64()).to_pylist()
        return [None if us is None else _EPOCH + timedelta(microseconds=us) for us in since]
    if not pa.types.is_string(column.type):
        return list(column.to_pylist())
    shared: dict[str, str] = {}
    return [None if text is None else shared.setdefault(text, text) for text in column.to_pylist()]


def encode_records(records: Sequence[ResultRecord]) -> bytes:
    """A Parquet file of records; there must be at least one, and all of one kind."""
    return encode_tables([to_table(records)])


def encode_tables(tables: Iterable[pa.Table]) -> bytes:
    """A Parquet file with a row group for each table of records; at least one table, and all of one kind."""
    sink = io.BytesIO()
    rest = iter(tables)
    first = next(rest)
    many = len(first) > _FEW_ROWS
    with pq.ParquetWriter(
        sink, first.schema, compression="zstd", use_dictionary=many, write_statistics=many
    ) as writer:
        writer.write_table(first)
        for table in rest:
            writer.write_table(table)
    return sink.getvalue()


def decode_table(
    data: bytes, kind: type[ResultRecord], columns: Collection[str] | None = None
) -> pa.Table:
    """Decode a Parquet file of records into a table, with its columns in the order of the fields.

    A column that was added to the kind after the file was written has its default in every row.

    Args:
        data: bytes of the file.
        kind: of the records.
        columns: names of the columns to read; all by default.

    Raises:
        SchemaError: the file is unreadable, of an unknown version, or of another kind.
    """
    file = _opened(data)
    wanted = [f for f in fields(kind) if columns is None or f.name in columns]
    present = set(file.schema_arrow.names)
    try:
        table = file.read(
            [f.name for f in wanted if f.name in present],
            use_threads=file.metadata.num_rows > _FEW_ROWS,
        )
    except (pa.ArrowException, OSError) as error:
        raise SchemaError(f"it is not readable as Parquet ({error})") from None
    return _as_known(table, kind, wanted)


def decode_pieces(data: bytes, kind: type[ResultRecord]) -> Iterator[pa.Table]:
    """Decode a Parquet file of records one row group at a time, so that a large file need not fit in memory.

    Raises:
        SchemaError: as for `decode_table`; raised by the call itself, before the first table is requested.
    """
    file = _opened(data)
    wanted = fields(kind)
    _as_known(file.schema_arrow.empty_table(), kind, wanted)
    threads = file.metadata.num_rows > _FEW_ROWS
    return (
        _as_known(file.read_row_group(group, use_threads=threads), kind, wanted)
        for group in range(file.num_row_groups)
    )


def _opened(data: bytes) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise SchemaError(f"it is not readable as Parquet ({error})") from None
    check_version(file.schema_arrow.metadata)
    return file


def _as_known(table: pa.Table, kind: type[ResultRecord], wanted: Sequence[Field[Any]]) -> pa.Table:
    """The wanted columns of a table, with the current schema and defaults for missing columns.

    Raises:
        SchemaError: a column is of another type, or is missing and has no default.
    """
    names = [f.name for f in wanted]
    schema = _part(kind, names)
    if table.schema.equals(schema):
        return table.replace_schema_metadata(schema.metadata)
    present = set(table.column_names)
    arrays = []
    for f in wanted:
        expected = f.metadata["arrow"]
        if f.name in present:
            array = table.column(f.name)
            if array.type != expected:
                raise SchemaError(f"its column {f.name} is of {array.type}, not {expected}")
        elif f.default is not MISSING:
            array = pa.chunked_array([pa.array([f.default] * table.num_rows, expected)])
        else:
            raise SchemaError(f"it has no column {f.name}, which {kind.collection} have")
        arrays.append(array)
    return pa.table(dict(zip(names, arrays, strict=True)), schema=schema)


def strings(values: Sequence[str]) -> pa.StringArray:
    """Strings as an Arrow array, built from buffers: `pa.array` of a list imports pandas, which takes half a
    second."""
    data = [value.encode() for value in values]
    offsets = np.zeros(len(data) + 1, dtype=np.int32)
    np.cumsum([*map(len, data)], out=offsets[1:])
    return pa.StringArray.from_buffers(
        len(data), pa.py_buffer(offsets), pa.py_buffer(b"".join(data))
    )


def empty_table(kind: type[ResultRecord], columns: Collection[str] | None = None) -> pa.Table:
    names = [f.name for f in fields(kind) if columns is None or f.name in columns]
    return pa.Table.from_batches([], schema=_part(kind, names))


def check_version(metadata: Mapping[bytes, bytes] | None) -> None:
    """Check the schema version in the metadata of a file.

    Raises:
        SchemaError: this program cannot read that version.
    """
    version = (metadata or {}).get(VERSION_KEY, b"none").decode(errors="replace")
    if version != str(SCHEMA_VERSION):
        raise SchemaError(f"its schema version is {version}; this program reads {SCHEMA_VERSION}")


def _part(kind: type[ResultRecord], names: Sequence[str]) -> pa.Schema:
    whole = arrow_schema(kind)
    if len(names) == len(whole):
        return whole
    return pa.schema([whole.field(name) for name in names], metadata=whole.metadata)
