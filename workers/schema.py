"""What is written down of each kind of result: one dataclass a kind, from which its Arrow schema follows.

The version is in every file; a reader refuses versions that it does not know.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

SCHEMA_VERSION = 1
_VERSION_KEY = b"toscore.schema"
_SCALARS_KEY = b"toscore.scalars"


class SchemaError(ValueError):
    """The bytes are not what they should be."""


def _column(arrow: pa.DataType, default: Any = MISSING) -> Any:
    return (
        field(default=default, metadata={"arrow": arrow})
        if default is not MISSING
        else field(metadata={"arrow": arrow})
    )


_FLOATS = pa.list_(pa.float64())

_TRAINING = pa.list_(
    pa.struct([("epoch", pa.int32()), ("loss", pa.float64()), ("rate", pa.float64())])
)

_HISTORY = pa.list_(
    pa.struct(
        [
            ("epoch", pa.int32()),
            ("rate", pa.float64()),
            ("max_loss", pa.float64()),
            ("dense_maximum", pa.float64()),
            ("normal_norm", pa.float64()),
            ("tangent_norm", pa.float64()),
            ("length", pa.float64()),
            ("stretch", pa.float64()),
            ("points", pa.int32()),
            ("gradient_evaluations", pa.int64()),
        ]
    )
)


@dataclass(frozen=True, kw_only=True)
class ResultRecord:
    """What every record says of how it came about."""

    key: str = _column(pa.string())
    worker: str = _column(pa.string(), "")
    lease_epoch: int = _column(pa.int32(), 0)
    seconds: float = _column(pa.float64(), 0.0)
    finished_at: str = _column(pa.string(), "")
    """UTC, ISO 8601."""


@dataclass(frozen=True, kw_only=True)
class MinimumRecord(ResultRecord):
    """A minimum. Losses are plain (no L2), over the whole set, accumulated in float64."""

    collection: ClassVar[str] = "minima"

    index: int = _column(pa.int32())
    source: str = _column(pa.string())
    """`trained`, or the file that it was imported from."""
    loss: float = _column(pa.float64())
    test_loss: float = _column(pa.float64())
    accuracy: float = _column(pa.float64())
    test_accuracy: float = _column(pa.float64())
    gradient_norm: float = _column(pa.float64())
    epochs: int = _column(pa.int32())
    stop_reason: str = _column(pa.string())
    history: Sequence[Mapping[str, Any]] = _column(_TRAINING, ())
    object: str = _column(pa.string())
    """Name of its parameters in the store."""


@dataclass(frozen=True, kw_only=True)
class PairRecord(ResultRecord):
    """A pass: the highest loss on the best path found between two minima."""

    collection: ClassVar[str] = "pairs"

    i: int = _column(pa.int32())
    j: int = _column(pa.int32())
    a: str = _column(pa.string())
    b: str = _column(pa.string())
    height: float = _column(pa.float64())
    height_low: float = _column(pa.float64())
    height_high: float = _column(pa.float64())
    argmax_position: float = _column(pa.float64())
    positions: Sequence[float] = _column(_FLOATS)
    """Fractions of the arc length, 0 at `a` and 1 at `b`."""
    losses: Sequence[float] = _column(_FLOATS)
    outcome: str = _column(pa.string())
    reason: str = _column(pa.string())
    remaining_fall: float = _column(pa.float64())
    first_passage_a: float = _column(pa.float64())
    first_passage_b: float = _column(pa.float64())
    dips_a: bool = _column(pa.bool_())
    dips_b: bool = _column(pa.bool_())
    epochs: int = _column(pa.int32())
    points: int = _column(pa.int32())
    gradient_evaluations: int = _column(pa.int64())
    history: Sequence[Mapping[str, Any]] = _column(_HISTORY, ())
    object: str | None = _column(pa.string(), None)
    """Name of its points in the store; none where paths are not kept."""


@dataclass(frozen=True, kw_only=True)
class SimplexRecord(ResultRecord):
    """An optimised r-simplex (section 1.4)."""

    collection: ClassVar[str] = "simplices"

    vertices: Sequence[int] = _column(pa.list_(pa.int32()))
    faces: Sequence[str] = _column(pa.list_(pa.string()))
    value: float = _column(pa.float64())
    own_maximum: float = _column(pa.float64())
    outcome: str = _column(pa.string())
    epochs: int = _column(pa.int32())
    gradient_evaluations: int = _column(pa.int64())
    object: str | None = _column(pa.string(), None)


Record = MinimumRecord | PairRecord | SimplexRecord
R = TypeVar("R", MinimumRecord, PairRecord, SimplexRecord)
KINDS: Mapping[str, type[Record]] = {
    kind.collection: kind for kind in (MinimumRecord, PairRecord, SimplexRecord)
}


def arrow_schema(kind: type[Record]) -> pa.Schema:
    columns = [pa.field(f.name, f.metadata["arrow"]) for f in fields(kind)]
    return pa.schema(columns, metadata={_VERSION_KEY: str(SCHEMA_VERSION).encode()})


def encode_records(records: Sequence[Record]) -> bytes:
    """A Parquet file of records of one kind."""
    kind = type(records[0])
    columns = {f.name: [getattr(r, f.name) for r in records] for f in fields(kind)}
    return _written(pa.table(columns, schema=arrow_schema(kind)))


def decode_table(data: bytes, kind: type[Record]) -> pa.Table:
    """The records of a file, as a table.

    Raises:
        SchemaError: unreadable, or of a version or kind that is not known.
    """
    table = _read(data)
    if table.schema.names != arrow_schema(kind).names:
        raise SchemaError(f"the columns are not those of {kind.collection}")
    return table


def to_records(table: pa.Table, kind: type[R]) -> list[R]:
    return [kind(**row) for row in table.to_pylist()]


def encode_tensors(tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> bytes:
    """Named 2-D tensors of one dtype as Parquet: one row a row of a tensor; scalars as JSON beside."""
    dtype = next(iter(tensors.values())).dtype
    arrow = {torch.float32: pa.float32(), torch.float64: pa.float64()}[dtype]
    names, rows, values = [], [], []
    for name, tensor in tensors.items():
        if tensor.ndim != 2 or tensor.dtype != dtype:
            raise ValueError(f"{name} is {tuple(tensor.shape)} {tensor.dtype}, not 2-D {dtype}")
        matrix = tensor.detach().cpu().contiguous().numpy()
        for row, line in enumerate(matrix):
            names.append(name)
            rows.append(row)
            values.append(pa.array(line, arrow))
    table = pa.table(
        {
            "name": pa.array(names, pa.string()),
            "row": pa.array(rows, pa.int32()),
            "values": pa.array([v.to_numpy() for v in values], pa.list_(arrow)),
        }
    )
    metadata = {
        _VERSION_KEY: str(SCHEMA_VERSION).encode(),
        _SCALARS_KEY: json.dumps(dict(scalars)).encode(),
    }
    return _written(table.replace_schema_metadata(metadata))


def decode_tensors(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `encode_tensors` was given, bit for bit.

    Raises:
        SchemaError: unreadable, or of a version that is not known.
    """
    table = _read(data)
    try:
        scalars = json.loads(table.schema.metadata[_SCALARS_KEY])
        names = table.column("name").to_pylist()
        lists = table.column("values").combine_chunks()
    except (KeyError, ValueError) as error:
        raise SchemaError(f"no tensors in it ({error})") from None
    rows: dict[str, list[Tensor]] = {}
    for position, name in enumerate(names):
        line = lists[position].values.to_numpy(zero_copy_only=False).copy()
        rows.setdefault(name, []).append(torch.from_numpy(line))
    return {name: torch.stack(lines) for name, lines in rows.items()}, scalars


def _written(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    # Weights do not compress, and dictionaries of them would double the file.
    pq.write_table(table, sink, compression="zstd", use_dictionary=["name"])
    return sink.getvalue()


def _read(data: bytes) -> pa.Table:
    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise SchemaError(f"not readable as Parquet ({error})") from None
    version = (table.schema.metadata or {}).get(_VERSION_KEY)
    if version != str(SCHEMA_VERSION).encode():
        raise SchemaError(f"schema version {version!r}; this program reads {SCHEMA_VERSION}")
    return table
