"""`data: {name: text, file: …}`: a user's text, plain or as JSON lines."""

import gzip
import json

import pytest

from workers.problems.data_sets import load_dataset, sizes
from workers.problems.text import RARE, text_of_file
from workers.problems.user_code import BadReference
from workers.tasks.specs import DataSpec

TEXT = "The  quick\nbrown fox.\n\nJumps over the lazy dog; again and again.\n" * 20


def loaded(**options):
    return load_dataset(DataSpec.parse({"name": "text", "context": 5, **options}))


@pytest.mark.parametrize("key", ["text", "content"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_shard_has_the_text_of_its_documents(tmp_path, monkeypatch, key, packed):
    """JSON lines, compressed or not, under either key of OSCAR, are the same windows as plain text."""
    monkeypatch.setenv("TOSCORE_DATA", str(tmp_path))
    (tmp_path / "plain.txt").write_text(TEXT)
    lines = "\n".join(json.dumps({"id": k, key: part}) for k, part in enumerate(TEXT.split("\n")))
    name = "shard.jsonl.gz" if packed else "shard.jsonl"
    (tmp_path / name).write_bytes(gzip.compress(lines.encode()) if packed else lines.encode())
    plain, shard = loaded(file="plain.txt"), loaded(file=str(tmp_path / name))
    assert plain.fingerprint == shard.fingerprint and plain.classes == shard.classes


def test_rare_characters_become_one(tmp_path):
    """Only the most frequent characters are kept, and no more of the file than was asked for."""
    (tmp_path / "t.txt").write_text("aaa bbb ccc 世界")
    assert text_of_file(tmp_path / "t.txt", kinds=3) in {
        f"aaa bbb {RARE * 3} {RARE * 2}",
        f"aaa {RARE * 3} ccc {RARE * 2}",
        f"{RARE * 3} bbb ccc {RARE * 2}",
    }
    assert text_of_file(tmp_path / "t.txt", characters=5) == "aaa b"


def test_sizes_are_known_without_the_file(tmp_path, monkeypatch):
    """Of a missing file they are those of its options, and those of the data once it is there."""
    monkeypatch.setenv("TOSCORE_DATA", str(tmp_path))
    spec = DataSpec.parse(
        {"name": "text", "context": 5, "file": "t.txt", "characters": 500, "kinds": 9}
    )
    before = sizes(spec)
    (tmp_path / "t.txt").write_text(TEXT)
    assert before == sizes(spec)
    assert (before.train, before.test, before.classes) == (395, 95, 10)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.txt", None, "cannot be read as text.*TOSCORE_DATA"),
        ("bad.jsonl", '{"text": "a"}\n{"te', "line 2 is not JSON"),
        ("bad.jsonl", '{"texts": "a"}', "line 1 has no text under text, content"),
        ("bad.jsonl", "[1, 2]", "line 1 has no text"),
        ("bad.txt", b"\xff\xfe\x00", "cannot be read as text"),
        ("bad.txt.gz", b"no gzip", "cannot be read as text"),
        ("short.txt", b"abc", "data.context is 5"),
    ],
)
def test_a_file_that_holds_no_text_is_refused(tmp_path, name, content, message):
    """One sentence that names the file, the line and what to give."""
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadReference, match=message):
        loaded(file=str(tmp_path / name))
