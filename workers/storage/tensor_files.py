"""Named matrices as Parquet, bit for bit: paths, simplices and the states of unfinished tasks.

One row a row of a matrix: `name` of the matrix, `row` in it, `values`. Numbers and texts that belong to
them are JSON in the file's metadata. Parquet, and not a format for tensors, because anybody's tools
read it.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from workers.storage.record_files import check_version
from workers.storage.schema import SCHEMA_VERSION, VERSION_KEY, SchemaError

SCALARS_KEY = b"toscore.scalars"
_SHAPES_KEY = b"toscore.shapes"

_ARROW = {torch.float32: pa.float32(), torch.float64: pa.float64(), torch.int64: pa.int64()}
_TORCH = {str(arrow): dtype for dtype, arrow in _ARROW.items()}


def encode_tensors(tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> bytes:
    """Matrices, and scalars that belong to them, as a Parquet file.

    Args:
        tensors: 2-D, of float32, float64 or int64. Those of the first one's dtype are in the column
            `values`; those of another have a column of its name (`double`, `float`, `int64`).
        scalars: anything that JSON can write.

    Raises:
        ValueError: a tensor of another shape or dtype.
    """
    for name, tensor in tensors.items():
        if tensor.ndim != 2 or tensor.dtype not in _ARROW:
            raise ValueError(
                f"{name} is of shape {tuple(tensor.shape)} and {tensor.dtype}; a stored tensor is 2-D "
                "of float32, float64 or int64"
            )
    arrays = {n: np.ascontiguousarray(t.detach().cpu().numpy()) for n, t in tensors.items()}
    types = {name: _ARROW[tensor.dtype] for name, tensor in tensors.items()}
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
    # Trained weights do not compress, and looking for repeats in them takes time.
    pq.write_table(
        pa.table(columns).replace_schema_metadata(metadata),
        sink,
        compression="none",
        use_dictionary=["name"],
        write_statistics=False,
    )
    return bytes(sink.getvalue())


def decode_tensors(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The arguments of `encode_tensors`, bit for bit.

    Raises:
        SchemaError: unreadable, or of a version that is not known.
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
    """The rows of the arrays of one type; null for the rows of the others."""
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


def _tensors(table: pa.Table, shapes: Mapping[str, list[Any]]) -> dict[str, Tensor]:
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
        tensors[name] = piece.to(_TORCH[arrow]).reshape(rows, width).clone()
    return tensors
