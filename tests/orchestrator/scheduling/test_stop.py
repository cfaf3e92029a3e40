"""`toscore stop`: through the store, to the driver that holds the run now and to no other."""

import json
from datetime import UTC, datetime

import pytest

from orchestrator.run_file.errors import UserError
from orchestrator.scheduling.exit_codes import ExitCode
from orchestrator.scheduling.holder import Holder
from orchestrator.scheduling.lease import Lease
from orchestrator.scheduling.stop_request import StopWatch, ask_to_stop, is_asked_to_stop
from tests.helpers import results
from tests.helpers.command import toscore
from tests.helpers.process import started, wait_until
from tests.helpers.run_files import write_run_file
from workers.storage.object_names import LEASE, STOP
from workers.storage.open_objects import open_objects

MINIMA, PAIRS = 16, 120  # so many that no machine finishes them before the request is seen
SETTINGS = {
    "data": "digits",
    "network": {"name": "fc", "hidden": [8]},
    "minima": {"count": MINIMA, "epochs": 2},
    "paths": {"bezier_epochs": 1, "epochs": 60, "points": 9},
    "resources": {"workers": 1, "checkpoint_seconds": 0},
}


@pytest.fixture
def objects(tmp_path):
    return open_objects(str(tmp_path))


def test_nobody_to_stop(objects):
    """A run without a driver, or whose driver has left, is distinguished from one with a living driver."""
    with pytest.raises(UserError, match="nothing to stop"):
        ask_to_stop(objects)
    Lease.acquire(objects).close()
    with pytest.raises(UserError, match="has ended"):
        ask_to_stop(objects)
    assert not [info for info in objects.list() if info.name == STOP]


@pytest.mark.parametrize("content", [b"", b'{"term": 1', b"[]", b'{"term": "one"}'])
def test_a_lease_that_cannot_be_read(objects, content):
    """`toscore stop` prints one sentence if no driver runs."""
    objects.put(LEASE, content)
    with pytest.raises(UserError, match="is unknown, because its"):
        ask_to_stop(objects)


def test_the_request_reaches_one_driver(objects):
    """A stop request counts for the lease term in it, and for none before or after."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    objects.put(LEASE, Holder(7, "elsewhere", "another boot", 1, now).encode())
    assert ask_to_stop(objects).term == 7
    assert [term for term in range(10) if is_asked_to_stop(objects, term)] == [7]


@pytest.mark.parametrize("content", [b"", b"7", b"[]", b"{}", b"\xff"])
def test_a_request_of_unknown_form_is_none(objects, content):
    """A request of another form stops no driver."""
    objects.put(STOP, content)
    assert not is_asked_to_stop(objects, 7)


def test_a_request_that_was_not_seen_stays(objects):
    """Only the driver that was asked removes the request."""
    objects.put(STOP, json.dumps({"lease_term": 7}).encode())
    StopWatch(objects, 8).close()
    assert is_asked_to_stop(objects, 7)


def paths_with_a_checkpoint(run):
    """Keys of paths that run now; none before all minima are recorded."""
    minima = {record["key"] for record in results.raw_records(run, "minima")}
    keys = {file.parent.name for file in results.checkpoint_files(run)}
    return keys - minima if len(minima) == MINIMA else set()


def test_a_driver_finishes_what_runs_and_leaves(tmp_path):
    """After `toscore stop` a driver finishes its running tasks and exits with 4 and the command that
    continues."""
    file, run = write_run_file(tmp_path, "a", SETTINGS), tmp_path / "runs" / "a"
    with started(tmp_path, "run", file, "--in-process") as process:
        wait_until(lambda: paths_with_a_checkpoint(run), process)
        said = toscore("stop", run)
        assert said.code == 0 and f"process {process.pid} on " in said.err
        output, _ = process.communicate(timeout=120)
    assert process.returncode == ExitCode.STOPPED, output
    assert f"To continue: toscore run {file}" in output
    assert not results.checkpoint_epochs(run), "what was running is finished"
    assert 1 <= len(results.raw_records(run, "pairs")) < PAIRS
    assert set(results.times_completed(run).values()) == {1}
    assert not (run / STOP).exists()
    assert toscore("stop", run).code == 2
