"""One rule for relative paths, and `~`, `$NAME`, patterns and folders as a shell has them."""

import pytest

from orchestrator.run_file.errors import BadRunFile
from orchestrator.run_file.locations import resolved, run_location


def test_home_and_variables(monkeypatch, tmp_path):
    """`~` and `$NAME` in store, reuse and warm_from are expanded, and make no folder of that name."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    values = {"store": "~/runs", "reuse": "$SCRATCH/a", "paths": {"warm_from": "${SCRATCH}/b"}}
    found = resolved(values, tmp_path)
    assert found["store"] == f"{tmp_path}/runs"
    assert found["reuse"] == ["/scratch/me/a"]
    assert found["paths"]["warm_from"] == "/scratch/me/b"


@pytest.mark.parametrize("location", ["s3://", "s3:bucket/x", "s3:/bucket", "gs:", "s3:///x"])
def test_half_a_url(location):
    """What begins like a URL and names no bucket is refused, and is no folder `s3:`."""
    with pytest.raises(BadRunFile, match="names no bucket"):
        run_location("store", location)


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("file:///data/runs", "write the folder, /data/runs"),
        ("ftp://host/runs", "a folder, or begin with one of s3://, gs://, az://"),
        ("hdfs://host/runs", "a folder, or begin with one of s3://, gs://, az://"),
    ],
)
def test_urls_of_other_kinds(location, says):
    """They are refused when the run file is read, and not first by the run."""
    with pytest.raises(BadRunFile, match=says):
        run_location("store", location)


@pytest.mark.parametrize("location", ["$NOT_SET_ANYWHERE/x", "~nobody_of_this_name/x", "a\0b"])
def test_what_cannot_be_expanded(location):
    """A variable or a home that does not exist is named."""
    with pytest.raises(BadRunFile, match="store is"):
        run_location("store", location)


def test_checkpoints_by_pattern_and_folder(tmp_path):
    """A string, a pattern and a folder stand for files beside the run file, in the order of their numbers."""
    steps = tmp_path / "steps"
    steps.mkdir()
    for step in (10, 9, 100):
        (steps / f"step-{step}.pt").touch()
    (steps / "log.txt").touch()
    expected = [str(steps.resolve() / f"step-{step}.pt") for step in (9, 10, 100)]
    for named in ("steps", "steps/step-*.pt", ["steps/*.pt"], str(steps)):
        assert resolved({"minima": {"from": named}}, tmp_path)["minima"]["from"] == expected
    with pytest.raises(BadRunFile, match="fits no file"):
        resolved({"minima": {"from": "*.pth"}}, tmp_path)
    with pytest.raises(BadRunFile, match="holds no checkpoint"):
        (tmp_path / "empty").mkdir()
        resolved({"minima": {"from": "empty"}}, tmp_path)


def test_shards_are_one_checkpoint(tmp_path):
    """A folder with an index of shards is the one checkpoint that the index describes."""
    for name in ("model-00001-of-00002.safetensors", "model.safetensors.index.json"):
        (tmp_path / name).touch()
    found = resolved({"minima": {"from": ["."]}}, tmp_path)["minima"]["from"]
    assert found == [str(tmp_path.resolve() / "model.safetensors.index.json")]
