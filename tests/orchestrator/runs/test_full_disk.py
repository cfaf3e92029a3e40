"""A full disk: the run waits, reports it, and continues once there is room."""

import contextlib
import os
import subprocess

import pytest

from tests.helpers import results
from tests.helpers.process import started, wait_until
from tests.helpers.run_files import finished_run, write_run_file

SETTINGS = {
    "data": "digits",
    "network": {"name": "fc", "hidden": [16]},
    "minima": {"count": 4, "epochs": 4},
    "paths": {"bezier_epochs": 4, "epochs": 4, "points": 30, "evaluate_every": 4},
}


def mount(*arguments):
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True, check=False)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 8 MB, which the run alone does not fill."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    if mount("-t", "tmpfs", "-o", "size=8m", "tmpfs", disk).returncode:
        pytest.skip("this machine mounts no tmpfs")
    yield disk
    subprocess.run(["umount", "-l", disk], check=False)


def test_a_run_waits_for_room(tmp_path, small_disk):
    """A run on a full disk waits and says so; with room again it ends with the bits of an undisturbed run."""
    (tmp_path / "roomy").mkdir()
    roomy = finished_run(write_run_file(tmp_path / "roomy", "full", SETTINGS))
    file = write_run_file(tmp_path, "full", SETTINGS, store=str(small_disk))
    run = small_disk / "full"
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
    assert results.bits(run) == results.bits(roomy)
    assert set(results.times_completed(run).values()) == {1}
