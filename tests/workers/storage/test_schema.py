"""Records in Parquet."""

import dataclasses
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.records import minimum_record, pair_record
from workers.storage.record_files import decode_table, encode_records, strings, to_records
from workers.storage.schema import KINDS, VERSION_KEY, SchemaError


@pytest.mark.parametrize("make", [minimum_record, pair_record])
def test_records_come_back(make):
    """Every field survives writing and reading, lists and times included."""
    records = [make("a", number=0), make("b", number=1)]
    kind = type(records[0])
    assert to_records(decode_table(encode_records(records), kind), kind) == records


def test_every_field_has_a_column():
    """Each field of a record has an Arrow type."""
    for kind in KINDS.values():
        for f in dataclasses.fields(kind):
            assert isinstance(f.metadata["arrow"], pa.DataType), f.name


def rewritten(data, change):
    table = change(pq.read_table(pa.BufferReader(data)))
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def test_an_unknown_version_is_refused():
    """A file of a later schema version is refused."""
    data = rewritten(
        encode_records([pair_record("a")]),
        lambda t: t.replace_schema_metadata({VERSION_KEY: b"99"}),
    )
    with pytest.raises(SchemaError, match="version is 99"):
        decode_table(data, KINDS["pairs"])


def test_a_column_that_was_added_later_has_its_default():
    """Files that were written before a column existed stay readable."""
    data = rewritten(encode_records([pair_record("a")]), lambda t: t.drop_columns(["worker"]))
    assert decode_table(data, KINDS["pairs"]).column("worker").to_pylist() == [""]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop_columns(["height"]), "has no column height"),
        (lambda t: t.set_column(2, "worker", pa.array([1])), "column worker is of int64"),
    ],
)
def test_a_file_of_another_shape_is_refused(change, words):
    """The message names a missing column, or one of a wrong type."""
    with pytest.raises(SchemaError, match=words):
        decode_table(rewritten(encode_records([pair_record("a")]), change), KINDS["pairs"])


@given(st.lists(st.text()))
def test_strings_are_those_of_arrow(values):
    """The column that is made without pandas equals the one that Arrow makes."""
    try:
        expected = pa.array(values, pa.string())
    except UnicodeEncodeError:  # half a surrogate pair
        return
    made = strings(values)
    made.validate(full=True)
    assert made.equals(expected)
