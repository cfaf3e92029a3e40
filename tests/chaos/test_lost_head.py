"""A head that is deleted with the driver inside, and a submitter that is killed, on a real Ray head."""

import json
import os
import signal
import subprocess
import sys
import urllib.request

import psutil
import pytest

from tests.helpers import results
from tests.helpers.cluster import head
from tests.helpers.command import toscore
from tests.helpers.process import wait_until
from tests.helpers.waiting import wait_for
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

RUN_FILE = {
    "name": "a",
    "data": {"name": "digits", "subset": 600},
    "network": {"name": "fc", "hidden": [12]},
    "minima": {"count": 4, "epochs": 12, "optimizer": {"name": "adam", "lr": 0.02}},
    "paths": {"bezier_epochs": 3, "epochs": 60, "points": 9, "evaluate_every": 4},
    "resources": {"workers": 1, "gpus_per_worker": 0, "checkpoint_seconds": 0},
}
PAIRS = 6


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(json.dumps({**RUN_FILE, "store": str(tmp_path / "runs")}))
    return path


def submitted(cluster, file):
    """`toscore submit`, which follows the job to its end."""
    command = [sys.executable, "-m", "orchestrator", "submit", str(file)]
    return subprocess.Popen(
        [*command, "--address", cluster.dashboard],
        cwd=file.parent,
        env=cluster.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def paths_done(file):
    return len(Store(open_objects(str(file.parent / "runs" / "a"))).completed("pairs"))


def states_of_jobs(cluster):
    request = urllib.request.Request(
        f"{cluster.dashboard}/api/jobs/", headers={"Authorization": f"Bearer {cluster.token}"}
    )
    with urllib.request.urlopen(request) as answer:
        return [job["status"] for job in json.load(answer) if job["submission_id"]]


def check(file):
    """Complete, with the bits of an undisturbed run, and nothing twice."""
    run, alone = file.parent / "runs" / "a", file.parent / "alone"
    quiet = toscore("run", file, "--in-process", "--set", f"store={alone}")
    assert quiet.code == 0, quiet.err
    assert paths_done(file) == PAIRS
    assert results.bits(run) == results.bits(alone / "a")
    assert set(results.times_completed(run).values()) == {1}


def test_a_run_goes_on_without_the_machine_that_submitted_it(file, tmp_path):
    """The submitter is killed: the job goes on to its end, and submitted again it has nothing left to do."""
    home = tmp_path / "home"
    home.mkdir()
    with head(home, "--num-cpus=1") as cluster:
        process = submitted(cluster, file)
        wait_until(lambda: paths_done(file) >= 1, process, 200)
        process.kill()
        process.communicate()
        wait_for(lambda: states_of_jobs(cluster) == ["SUCCEEDED"], 300)
        again = submitted(cluster, file)
        output, _ = again.communicate(timeout=200)
        assert again.returncode == 0, output
    check(file)


def test_a_head_that_is_deleted_with_the_driver_inside(file, tmp_path):
    """Every process of the head's machine ends at once: the submitter says that the same command may be
    started again (75), and on a new head it continues the run."""
    homes = [tmp_path / "first", tmp_path / "second"]
    for home in homes:
        home.mkdir()
    with head(homes[0], "--num-cpus=1") as cluster:
        process = submitted(cluster, file)
        wait_until(lambda: paths_done(file) >= 1, process, 200)
        delete(homes[0])
        output, _ = process.communicate(timeout=200)
        assert process.returncode == 75, output
        assert "submit again" in output
    done = paths_done(file)
    assert 1 <= done < PAIRS
    with head(homes[1], "--num-cpus=1") as cluster:
        process = submitted(cluster, file)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    check(file)


def delete(home):
    """SIGKILL of every process of a head, its job and its workers; the submitter has the same HOME."""
    for process in psutil.process_iter():
        try:
            mine = process.environ().get("HOME") == str(home)
            if mine and "submit" not in process.cmdline():
                os.kill(process.pid, signal.SIGKILL)
        except (psutil.Error, OSError):
            continue
