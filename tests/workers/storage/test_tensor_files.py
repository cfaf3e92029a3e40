"""Matrices in Parquet."""

import math

import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.storage.schema import SchemaError
from workers.storage.tensor_files import decode_tensors, encode_tensors

DTYPES = (torch.float32, torch.float64, torch.int64)


@st.composite
def matrices(draw):
    """Any bits, NaNs with payloads among them."""
    dtype = draw(st.sampled_from(DTYPES))
    rows, width = draw(st.integers(0, 5)), draw(st.integers(0, 4))
    size = rows * width * dtype.itemsize
    data = bytearray(draw(st.binary(min_size=size, max_size=size)))
    if not data:
        return torch.zeros(rows, width, dtype=dtype)
    return torch.frombuffer(data, dtype=dtype).reshape(rows, width)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=8), matrices(), max_size=4))
def test_bit_for_bit(tensors):
    """Names, shapes, dtypes and every bit come back, whatever the numbers are."""
    scalars = {"epoch": 3, "text": "é", "history": [[1, 0.1]]}
    read, other = decode_tensors(encode_tensors(tensors, scalars))
    assert other == scalars
    assert list(read) == list(tensors)
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert read[name].shape == tensor.shape
        assert read[name].numpy().tobytes() == tensor.contiguous().numpy().tobytes()


def test_scalars_of_full_precision():
    """A float in the scalars keeps its bits."""
    value = 0.1 + 1e-17 + math.pi
    assert decode_tensors(encode_tensors({}, {"x": value}))[1]["x"] == value


def test_readable_without_our_code(tmp_path):
    """Any Parquet reader gets a row for each point, with the tensor's name and the row number."""
    file = tmp_path / "path.parquet"
    file.write_bytes(encode_tensors({"points": torch.tensor([[1.0, 2.0], [3.0, 4.0]])}, {}))
    assert pq.read_table(file).to_pylist() == [
        {"name": "points", "row": 0, "values": [1.0, 2.0]},
        {"name": "points", "row": 1, "values": [3.0, 4.0]},
    ]


@pytest.mark.parametrize("tensor", [torch.zeros(3), torch.zeros(2, 2, dtype=torch.float16)])
def test_tensors_of_other_shapes_and_dtypes_are_refused(tensor):
    """The message names a tensor of another shape or dtype; nothing is rounded silently."""
    with pytest.raises(ValueError, match="points is of shape"):
        encode_tensors({"points": tensor}, {})


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_truncated_bytes_are_reported(keep):
    """A truncated file raises SchemaError and no other exception."""
    data = encode_tensors({"points": torch.ones(4, 3)}, {})
    cut = int(keep if keep >= 1 else keep * len(data))
    with pytest.raises(SchemaError):
        decode_tensors(data[:cut])
