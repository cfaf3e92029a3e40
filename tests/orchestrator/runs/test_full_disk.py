"""A disk that is full: the run waits, says so, and goes on when there is room."""

import contextlib
import json
import os
import subprocess

import pytest

from tests.helpers import results
from tests.helpers.command import toscore
from tests.helpers.process import started, wait_until

SETTINGS = {
    "data": "digits",
    "network": {"name": "fc", "hidden": [16]},
    "minima": {"count": 4, "epochs": 4},
    "paths": {"bezier_epochs": 4, "epochs": 4, "points": 30, "evaluate_every": 4},
}


def write(folder, store):
    file = folder / "full.yaml"
    file.write_text(json.dumps({"name": "full", "store": str(store), **SETTINGS}))
    return file


def mount(*arguments):
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True, check=False)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 8 MB, on which the run fits if nobody else uses it."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    if mount("-t", "tmpfs", "-o", "size=8m", "tmpfs", disk).returncode:
        pytest.skip("this machine mounts no tmpfs")
    yield disk
    subprocess.run(["umount", "-l", disk], check=False)


def test_a_run_waits_for_room(tmp_path, small_disk):
    """Nothing is lost, nothing is torn, and the bits are those of a run with room."""
    (tmp_path / "roomy").mkdir()
    said = toscore("run", write(tmp_path / "roomy", tmp_path / "roomy" / "runs"), "--in-process")
    assert said.code == 0, said.err
    file, run = write(tmp_path, small_disk), small_disk / "full"
    with started(tmp_path, "run", file, "--in-process") as process:
        wait_until(lambda: len(results.raw_records(run, "minima")) >= 1, process)
        filler = small_disk / "other-peoples-data"
        with filler.open("wb", buffering=0) as others, contextlib.suppress(OSError):
            while True:
                others.write(b"x" * 4096)
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "waiting" in line:
                break
        assert "no space left" in lines[-1], lines
        filler.unlink()
        assert mount("-o", "remount,size=64m", small_disk).returncode == 0
        output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, "".join(lines) + output
    assert results.bits(run) == results.bits(tmp_path / "roomy" / "runs" / "full")
    assert set(results.times_completed(run).values()) == {1}
