"""The main job on an object store: the same commands, the same bits."""

import json

import pytest

from tests.helpers import s3_server
from tests.helpers.command import toscore
from workers.storage.open_objects import open_objects

SETTINGS = {
    "data": {"name": "digits", "subset": 400},
    "network": {"name": "fc", "hidden": [12]},
    "minima": {"count": 3, "epochs": 6},
    "paths": {"bezier_epochs": 6, "epochs": 6, "points": 5, "evaluate_every": 3},
}

pytestmark = pytest.mark.s3


def run(folder, name, store):
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps({"name": name, "store": store, **SETTINGS}))
    said = toscore("run", file, "--in-process")
    assert said.code == 0, said.err
    return said


@pytest.fixture
def bucket(s3, monkeypatch, tmp_path):
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server.BUCKET}/{tmp_path.name}"


def content(location):
    objects = open_objects(location)
    names = [info.name for kind in ("minima", "paths") for info in objects.list(kind)]
    return {name: objects.get(name) for name in names}


def test_the_same_commands_and_the_same_bits(bucket, tmp_path):
    """Run, reduce, status and verify by URL; objects are those of a folder."""
    run(tmp_path, "remote", bucket)
    run(tmp_path, "local", str(tmp_path))
    url = f"{bucket}/remote"
    assert content(url) == content(str(tmp_path / "local"))
    there = json.loads(toscore("reduce", url, "--json").out)
    here = json.loads(toscore("reduce", tmp_path / "local", "--json").out)
    assert there["barcodes"] == here["barcodes"]
    assert json.loads(toscore("status", url, "--json").out)["complete"] is True
    verified = json.loads(toscore("verify", url, "--json").out)
    assert verified["sound"] is True and len(verified["heights"]) == 3


def test_damage_on_an_object_store_is_made_again(bucket, tmp_path):
    """A flipped bit in a segment is found when the run starts again."""
    run(tmp_path, "hurt", bucket)
    objects = open_objects(f"{bucket}/hurt")
    before = content(f"{bucket}/hurt")
    (segment,) = [info.name for info in objects.list("records/minima")][:1]
    data = bytearray(objects.get(segment))
    data[len(data) // 2] ^= 2
    objects.put(segment, bytes(data))
    said = run(tmp_path, "hurt", bucket)
    assert segment in said.err
    assert content(f"{bucket}/hurt") == before


def test_no_credential_is_written_or_said(bucket, tmp_path):
    """Not in an object, not in an answer."""
    said = run(tmp_path, "quiet", bucket)
    objects = open_objects(f"{bucket}/quiet")
    secrets = [s3_server.SECRET.encode(), s3_server.KEY.encode()]
    for info in objects.list():
        data = objects.get(info.name)
        assert not any(secret in data for secret in secrets), info.name
    status = toscore("status", f"{bucket}/quiet", "--json")
    for text in (said.out, said.err, status.out):
        assert s3_server.SECRET not in text and s3_server.KEY not in text
