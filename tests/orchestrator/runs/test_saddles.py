"""Peaks of paths are followed to saddles during a run, or later on request."""

import json

from tests.helpers.command import toscore
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store
from workers.storage.schema import SaddleRecord

SETTINGS = """
data: {name: digits, subset: 60}
network: {name: fc, hidden: [2], activation: tanh}
loss: {name: cross_entropy, ridge: 1e-2}
minima: {count: 2, epochs: 3}
paths: {start: line, epochs: 5, points: 5}
saddles: {refine: 'off'}
"""


def test_a_finished_run_takes_saddles_later(tmp_path):
    """With saddles.refine=all the same command computes the missing saddles alone, and every bar end says
    what the peak led to."""
    file = tmp_path / "late.yaml"
    file.write_text(f"name: late\nstore: {tmp_path}/runs\n{SETTINGS}")
    said = toscore("run", file, "--in-process")
    assert said.code == 0, said.err
    folder = tmp_path / "runs" / "late"
    before = {path.name: path.read_bytes() for path in (folder / "paths").iterdir()}
    assert "verified" not in json.loads(toscore("reduce", folder, "--json").out)

    said = toscore("run", file, "--set", "saddles.refine=all", "--in-process")
    assert said.code == 0, said.err
    assert {path.name: path.read_bytes() for path in (folder / "paths").iterdir()} == before
    (record,) = Store(open_objects(str(folder))).records(SaddleRecord, lists=False)
    (end,) = json.loads(toscore("reduce", folder, "--json").out)["verified"]["bar_ends"]
    assert end["peak"]["loss"] == record.loss
