"""Stores with truncated objects, as a full disk or a lost machine leaves them: the run continues."""

import functools
import shutil

import pytest

from orchestrator.scheduling import lease as leases
from orchestrator.scheduling.lease import Lease
from tests.helpers import results
from tests.helpers.command import toscore
from tests.helpers.run_files import finished_run, write_run_file

SETTINGS = {
    "data": {"name": "digits", "subset": 100},
    "network": {"name": "fc", "hidden": [4]},
    "minima": {"count": 3, "epochs": 2, "polish": "off"},
    "paths": {"start": "line", "epochs": 3, "points": 4, "force": "paper"},
}
write = functools.partial(write_run_file, settings=SETTINGS)


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    return finished_run(write(tmp_path_factory.mktemp("complete"), "a"))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """A driver that watches an unreadable lease for 15 s, to see whether it changes, does not sleep."""
    slept = 0.0

    def sleep(seconds):
        nonlocal slept
        slept += seconds

    acquire = functools.partial(
        Lease.acquire, clock=lambda: leases.boot_clock() + slept, sleep=sleep
    )
    monkeypatch.setattr(Lease, "acquire", staticmethod(acquire))


def goes_on(complete, folder, *names, share):
    """Truncate objects in a copy of the run: commands end with a sentence, and the run with the same bits."""
    run = folder / "runs" / "a"
    shutil.copytree(complete, run)
    for name in names:
        file = run / name
        file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    for command in ("status", "reduce", "stop"):
        said = toscore(command, run)
        assert said.code in (0, 2), (names, command, said.err)
        assert "Traceback" not in said.err and len(said.err.strip().splitlines()) <= 3, said.err
    said = toscore("run", write(folder, "a"), "--in-process")
    assert said.code == 0, (names, said.err)
    assert results.bits(run) == results.bits(complete), names
    assert results.reduced(run) == results.reduced(complete), names


def names_of(complete):
    return sorted(str(file.relative_to(complete)) for file in complete.rglob("*") if file.is_file())


@pytest.mark.parametrize("share", [pytest.param(0.0, marks=pytest.mark.slow), 0.5])
def test_without_its_lease_and_its_configuration(complete, tmp_path, share):
    """A run continues although its lease and its configuration are truncated."""
    names = [name for name in names_of(complete) if name.startswith(("run/", "lease"))]
    assert len(names) >= 2
    goes_on(complete, tmp_path, *names, share=share)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_each_object_in_turn(complete, tmp_path, share):
    """A run continues whichever object is truncated: minimum, path, record, commit, lease or
    configuration."""
    for number, name in enumerate(names_of(complete)):
        goes_on(complete, tmp_path / str(number), name, share=share)
