"""What `toscore status` says about the driver: running, silent or gone."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from orchestrator.dashboard.progress import DriverState, DriverWatch
from orchestrator.scheduling import lease
from orchestrator.scheduling.holder import Holder, this_process
from tests.helpers.command import toscore
from tests.helpers.made_run import complete_run
from workers.storage.object_names import LEASE


@pytest.fixture
def made(tmp_path):
    return complete_run(tmp_path, "a")


def status(made):
    return json.loads(toscore("status", made.folder, "--json").out)["driver"]


def test_a_driver_that_was_killed_is_not_running(made):
    """After SIGKILL the lease is left; on the same machine `status` reports at once that no driver runs."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    holder = replace(this_process(3), pid=process.pid)
    version = made.store.objects.create(LEASE, holder.encode())
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert status(made)["state"] == "not running"
    assert "not running" in toscore("status", made.folder).out
    made.store.objects.swap(
        LEASE, replace(holder, pid=os.getpid(), released=True).encode(), version
    )
    assert status(made)["state"] == "not running"


def test_a_run_whose_lease_beats_is_running(made):
    """While a driver holds the lease, `status` says so and names its process."""
    with contextlib.closing(lease.Lease.acquire(made.store.objects)):
        said = status(made)
    assert said["state"] == "running" and f"process {os.getpid()} on" in said["process"]


@pytest.mark.parametrize(
    ("beats", "state"), [(True, DriverState.RUNNING), (False, DriverState.QUIET)]
)
def test_a_driver_on_another_machine_is_watched_for_three_beats(made, beats, state):
    """Its process cannot be asked for: within 6 s a beat comes, or the driver counts as silent."""
    holder = Holder(3, "elsewhere", "another-boot", 17, "2026-01-01T00:00:00")
    version = made.store.objects.create(LEASE, holder.encode())
    now = 0.0

    def sleep(seconds):
        nonlocal now, holder, version
        now += seconds
        if beats:
            holder = replace(holder, beat=holder.beat + 1)
            version = made.store.objects.swap(LEASE, holder.encode(), version)

    assert DriverWatch(lambda: now).decided_state(made.store.objects, sleep)[0] is state
    assert now <= 3 * lease.BEAT_SECONDS + 1
