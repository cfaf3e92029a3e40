"""Two drivers at once on one run: one of them writes."""

import contextlib
import io
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.helpers import results
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]

TIMES = 20
RUN_FILE = """
name: {name}
store: {store}
data: digits
network: {{name: fc, hidden: [8]}}
minima: {{count: 4, epochs: 2, optimizer: {{name: adam, lr: 0.02}}}}
paths: {{bezier_epochs: 1, epochs: 30, points: 7}}
"""
TASKS = 4 + 6


def drive(file, environment, barrier, output):
    """A driver, in a process of its own; its messages to the user go into the file `output`."""
    from orchestrator.cli import main
    from orchestrator.scheduling import lease

    lease.BEAT_SECONDS = 0.2  # who comes second need not watch for long
    os.environ.update(environment)
    sys.argv = ["toscore", "run", str(file), "--in-process", "--quiet"]
    with (
        open(output, "w") as out,
        contextlib.redirect_stderr(out),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        barrier.wait(60)
        main()


@pytest.fixture(scope="module")
def processes():
    """Processes in which everything is imported already, so that two can start at the same moment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["orchestrator.launch", "orchestrator.cli", "workers.storage.buckets"]
    )
    return context


@contextlib.contextmanager
def started(processes, file, output, together=1):
    """Several drivers at once, and the files of their messages."""
    barrier = processes.Barrier(together)
    files = [output.with_name(f"{output.name}-{number}") for number in range(together)]
    threads = {"OMP_NUM_THREADS": "1"}
    given = threads | {k: v for k, v in os.environ.items() if k.startswith("AWS_")}
    drivers = [processes.Process(target=drive, args=(file, given, barrier, one)) for one in files]
    for driver in drivers:
        driver.start()
    try:
        yield list(zip(drivers, files, strict=True))
    finally:
        for driver in drivers:
            driver.kill()
            driver.join()


def copied(location: str, folder: Path) -> Path:
    """All objects of a run as files."""
    objects = open_objects(location)
    for info in objects.list():
        copy = folder / info.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(objects.get(info.name))
    return folder


def epochs_of(run):
    return {
        row["lease_term"] for kind in ("minima", "pairs") for row in results.raw_records(run, kind)
    }


def test_one_writes_and_its_death_lets_the_other_in(processes, location, tmp_path):
    """Twenty times: of two started at once one is refused, with the name of the other; when that one
    is killed the next gets in and goes on; no task is done twice, no object is torn, same bits."""
    expected = None
    for turn in range(TIMES):
        file, output = tmp_path / f"{turn}.yaml", tmp_path / f"output-{turn}"
        file.write_text(RUN_FILE.format(name=f"r{turn}", store=location))
        run = f"{location}/r{turn}"

        with started(processes, file, output, together=2) as both:
            assert multiprocessing.connection.wait([one.sentinel for one, _ in both], 120)
            (refused, reason), (writing, _) = sorted(both, key=lambda pair: pair[0].is_alive())
            assert refused.exitcode == 2, reason.read_text()
            holder = json.loads(open_objects(run).get("lease.json"))
            assert f"by process {writing.pid} on {holder['host']} since" in reason.read_text()
            assert writing.is_alive() and holder["pid"] == writing.pid
            os.kill(writing.pid, signal.SIGKILL)
        before = copied(run, tmp_path / f"before-{turn}")
        assert all(
            path.name.startswith("00000001") for path in (before / "records").rglob("*.parquet")
        )

        with started(processes, file, output) as ((other, reason),):
            other.join(600)
            assert other.exitcode == 0, reason.read_text()
        after = copied(run, tmp_path / f"after-{turn}")
        times = results.times_completed(after)
        assert len(times) == TASKS and set(times.values()) == {1}
        assert epochs_of(after) <= {1, 2}
        assert not Store(open_objects(run)).verify()
        bits = results.bits(after)
        expected = expected or bits
        assert bits == expected


def test_of_many_drivers_at_once_one_runs(processes, tmp_path):
    """Thirty-two `toscore run` of one run: one completes it, and thirty-one name its driver in a sentence."""
    file, output = tmp_path / "many.yaml", tmp_path / "output"
    file.write_text(RUN_FILE.format(name="many", store=tmp_path / "runs"))
    with started(processes, file, output, together=32) as drivers:
        for driver, _ in drivers:
            driver.join(600)
        codes = [driver.exitcode for driver, _ in drivers]
        reasons = [reason.read_text() for _, reason in drivers]
    refused = [reason for code, reason in zip(codes, reasons, strict=True) if code == 2]
    assert codes.count(0) >= 1 and len(refused) == 32 - codes.count(0), reasons
    assert all("by process" in reason and reason.count("\n") == 1 for reason in refused), refused
    times = results.times_completed(tmp_path / "runs" / "many")
    assert len(times) == TASKS and set(times.values()) == {1}
