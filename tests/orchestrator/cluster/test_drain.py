"""A node that gets SIGTERM drains itself, and its workers leave with their checkpoints, on a real Ray."""

import contextlib
import json
import signal
import subprocess
import sys

import pytest

from tests.helpers import results
from tests.helpers.cluster import RAY, head
from tests.helpers.process import wait_until
from tests.helpers.run_files import write_run_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SETTINGS = {
    "data": {"name": "digits", "subset": 600},
    "network": {"name": "fc", "hidden": [12]},
    "minima": {"count": 3, "epochs": 4, "polish": "off"},
    "paths": {"start": "line", "force": "paper", "epochs": 2000, "points": 9},
    "resources": {"workers": 2, "gpus_per_worker": 0},
}


@contextlib.contextmanager
def node(cluster, log):
    """One core that joins the cluster, as a pod or a step of Slurm starts it."""
    ports = ("--min-worker-port=0", "--max-worker-port=0", "--object-store-memory=100000000")
    command = [RAY, "start", "--block", f"--address={cluster.address}", "--num-cpus=1", *ports]
    with log.open("w") as out:
        process = subprocess.Popen(command, env=cluster.environment(), stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_node_that_is_told_to_leave_publishes_its_checkpoints(tmp_path):
    """Spot notices, `kubectl drain` and preemption by Slurm send SIGTERM. Within a minute of its start a
    path still continues from its checkpoint on the other node; nothing fails or runs twice."""
    file, log = write_run_file(tmp_path, "a", SETTINGS), tmp_path / "log.jsonl"
    run = tmp_path / "runs" / "a"
    with (
        head(tmp_path, "--num-cpus=0") as cluster,
        node(cluster, tmp_path / "1.log") as first,
        node(cluster, tmp_path / "2.log"),
    ):
        command = [sys.executable, "-m", "orchestrator", "run", file, "--address", cluster.address]
        driver = subprocess.Popen(
            [*map(str, command), "--log", str(log)],
            env=cluster.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        wait_until(lambda: log.exists() and log.read_text().count('"what": "path') == 2, driver)
        first.send_signal(signal.SIGTERM)
        wait_until(lambda: "WorkerLost" in log.read_text(), driver)
        kept = results.checkpoint_epochs(run)
        output, _ = driver.communicate(timeout=200)
    assert driver.returncode == 0, output
    events = [json.loads(line) for line in log.read_text().splitlines()]
    lost = [(e["how"], e["cause"]) for e in events if e["event"] == "WorkerLost"]
    assert lost == [("its node left", "its node is being drained")]
    assert kept and min(kept) > 0
    assert not [event for event in events if event["event"] == "TaskFailed"]
    assert set(results.times_completed(run).values()) == {1}
