"""Peaks of paths are followed to saddles during a run, or later on request."""

import json
import os
import signal

import pytest

from tests.helpers import results
from tests.helpers.command import toscore
from tests.helpers.process import started, wait_until
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
    what its path led to."""
    file = tmp_path / "late.yaml"
    file.write_text(f"name: late\nstore: {tmp_path}/runs\n{SETTINGS}")
    said = toscore("run", file, "--in-process")
    assert said.code == 0, said.err
    folder = tmp_path / "runs" / "late"
    before = {path.name: path.read_bytes() for path in (folder / "paths").iterdir()}
    assert "verified" not in json.loads(toscore("reduce", folder, "--json").out)

    said = toscore(
        "run", file, "--set", "saddles.refine=all", "--set", "saddles.rounds=1", "--in-process"
    )
    assert said.code == 0, said.err
    assert {path.name: path.read_bytes() for path in (folder / "paths").iterdir()} == before
    (record,) = Store(open_objects(str(folder))).records(SaddleRecord, lists=False)
    (end,) = json.loads(toscore("reduce", folder, "--json").out)["verified"]["bar_ends"]
    assert end["peak"]["loss"] == record.loss


@pytest.mark.slow
def test_a_run_killed_in_a_polish_and_in_a_refinement_has_the_same_bits(tmp_path):
    """SIGKILL once a polish has published a checkpoint, and once a path that is led over saddles has: the
    same command goes on from them, and every object and every number of the result is that of a quiet run."""
    settings = SETTINGS.replace("refine: 'off'", "refine: all").replace("subset: 60", "subset: 400")
    settings += "resources: {checkpoint_seconds: 0.05}\n"

    def write(name):
        file = tmp_path / name / "a.yaml"
        file.parent.mkdir()
        file.write_text(f"name: a\nstore: {tmp_path}/{name}\n{settings}")
        return file

    quiet, killed = write("quiet"), write("killed")
    assert toscore("run", quiet, "--in-process").code == 0
    folder = tmp_path / "killed" / "a"

    def checkpoint_with(name):
        def reached():
            if not folder.is_dir():
                return False
            store = Store(open_objects(str(folder)))
            states = [store.latest_checkpoint(key) for key in store.checkpointed()]
            return any(state is not None and name in state.scalars for state in states)

        return reached

    for name in ("polish", "pieces"):
        with started(tmp_path, "run", killed, "--in-process") as process:
            wait_until(checkpoint_with(name), process)
            os.kill(process.pid, signal.SIGKILL)
    said = toscore("run", killed, "--in-process")
    assert said.code == 0, said.err
    assert results.bits(folder) == results.bits(tmp_path / "quiet" / "a")
    assert results.reduced(folder) == results.reduced(tmp_path / "quiet" / "a")
