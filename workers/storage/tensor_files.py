"""Named matrices as Parquet files, without loss of bits: paths, simplices, saddles and checkpoints.

Each row of the file is a row of a matrix: the `name` of the matrix, the index `row`, and the `values`.
Scalars are stored as JSON in the metadata of the file. The format is Parquet, not a tensor format, because
many tools can read it.

torch is imported on first use: reading the records of a run does not need it.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from workers.storage.record_files import check_version
from workers.storage.schema import SCHEMA_VERSION, VERSION_KEY, SchemaError

if TYPE_CHECKING:
    from torch import Tensor

SCALARS_KEY = b"toscore.scalars"
_SHAPES_KEY = b"toscore.shapes"

_ARROW = {
    "torch.float32": pa.float32(),
    "torch.float64": pa.float64(),
    "torch.int64": pa.int64(),
}
"""Type in the file, by the name of the dtype."""


def encode_tensors(tensors: Mapping[str, "Tensor"], scalars: Mapping[str, Any]) -> bytes:
    """Matrices and scalars as a Parquet file.

    Args:
        tensors: 2-D, of float32, float64 or int64. Tensors with the dtype of the first one are in the column
            `values`; tensors of another dtype are in a column named after it (`float`, `double` or `int64`).
        scalars: values that JSON can encode.

    Raises:
        ValueError: a tensor of another shape or dtype.
    """
    for name, tensor in tensors.items():
        if tensor.ndim != 2 or str(tensor.dtype) not in _ARROW:
            raise ValueError(
                f"{name} is of shape {tuple(tensor.shape)} and {tensor.dtype}; a stored tensor is 2-D "
                "of float32, float64 or int64"
            )
    arrays = {n: np.ascontiguousarray(t.detach().cpu().numpy()) for n, t in tensors.items()}
    types = {name: _ARROW[str(tensor.dtype)] for name, tensor in tensors.items()}
    first = next(iter(types.values()), pa.float32())
    columns = {
        "name": pa.array([n for n, a in arrays.items() for _ in a], pa.string()),
        "row": pa.array([row for a in arrays.values() for row in range(len(a))], pa.int32()),
    }
    for arrow in dict.fromkeys([first, *types.values()]):
        columns["values" if arrow == first else str(arrow)] = _lists(arrays, types, arrow)
    metadata = {
        VERSION_KEY: str(SCHEMA_VERSION).encode(),
        SCALARS_KEY: json.dumps(dict(scalars)).encode(),
        _SHAPES_KEY: json.dumps({n: [str(types[n]), *a.shape] for n, a in arrays.items()}).encode(),
    }
    sink = pa.BufferOutputStream()
    # Trained weights do not compress, and an attempt takes time; so does a dictionary of their values.
    pq.write_table(
        pa.table(columns).replace_schema_metadata(metadata),
        sink,
        compression="none",
        use_dictionary=["name"],
        write_statistics=False,
    )
    return bytes(sink.getvalue())


def decode_tensors(data: bytes) -> tuple[dict[str, "Tensor"], dict[str, Any]]:
    """The arguments of `encode_tensors`, with the same bits.

    Raises:
        SchemaError: the file is unreadable or of an unknown version.
    """
    try:
        table = pq.read_table(pa.BufferReader(data))
        metadata = table.schema.metadata or {}
        check_version(metadata)
        shapes = json.loads(metadata[_SHAPES_KEY])
        scalars = json.loads(metadata[SCALARS_KEY])
        tensors = _tensors(table, shapes)
    except (pa.ArrowException, OSError) as error:
        raise SchemaError(f"it is not readable as Parquet ({error})") from None
    except (KeyError, ValueError) as error:
        if isinstance(error, SchemaError):
            raise
        raise SchemaError(f"there are no tensors in it ({error})") from None
    return tensors, scalars


def _lists(
    arrays: Mapping[str, np.ndarray], types: Mapping[str, pa.DataType], arrow: pa.DataType
) -> pa.Array:
    """A column with the rows of the arrays of one type, and null for the rows of all other arrays."""
    offsets, missing, parts = [0], [], []
    for name, array in arrays.items():
        here = types[name] == arrow
        for _ in array:
            offsets.append(offsets[-1] + (array.shape[1] if here else 0))
            missing.append(not here)
        if here:
            parts.append(array.reshape(-1))
    flat = np.concatenate(parts) if parts else np.empty(0, arrow.to_pandas_dtype())
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.array(flat, arrow), mask=pa.array(missing, pa.bool_())
    )


def _tensors(table: pa.Table, shapes: Mapping[str, list[Any]]) -> dict[str, "Tensor"]:
    import torch

    first = table.schema.field("values").type.value_type
    flat, taken = {}, {}
    for column in table.column_names[2:]:
        arrow = str(first) if column == "values" else column
        lists = table.column(column).combine_chunks()
        flat[arrow] = torch.from_numpy(np.array(lists.flatten().to_numpy(zero_copy_only=False)))
        taken[arrow] = 0
    tensors = {}
    for name, (arrow, rows, width) in shapes.items():
        start = taken[arrow]
        taken[arrow] = start + rows * width
        piece = flat[arrow][start : taken[arrow]]
        tensors[name] = piece.reshape(rows, width).clone()
    return tensors
