"""The batch script on a real Slurm: two nodes, a time limit, a cancelled job, and the end."""

import secrets

import pytest

from tests.deploy.files import DEPLOY
from tests.helpers import results
from tests.helpers.cluster import cluster_environment
from tests.helpers.command import toscore
from tests.helpers.slurm import is_installed, slurm
from tests.helpers.waiting import wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not is_installed(), reason="Slurm is not installed, or this is not root"),
]

SCRIPT = DEPLOY / "slurm" / "toscore.sbatch"
RUN_FILE = """
name: a
store: {folder}/runs
data: digits
network: {{name: fc, hidden: [16]}}
minima: {{count: 9, epochs: 12, optimizer: {{name: adam, lr: 0.02}}}}
paths: {{bezier_epochs: 1, epochs: 60, points: 9}}
"""
TASKS = 9 + 36


def test_time_limits_and_submissions(tmp_path):
    """Near its time limit the job requeues itself and continues; after a cancellation a new submission
    continues; both nodes work; nothing is done twice; the bits are those of a single process."""
    home = tmp_path / "home"
    home.mkdir()
    file, run = tmp_path / "a.yaml", tmp_path / "runs" / "a"
    file.write_text(RUN_FILE.format(folder=tmp_path))
    plain = cluster_environment(home, secrets.token_hex(16))
    environment = {k: v for k, v in plain.items() if not k.startswith("RAY_AUTH")}
    with slurm(tmp_path, environment) as cluster:

        def submit(*options):
            small = ("--parsable", "--cpus-per-task=1", "--output=job-%j.log")
            return cluster.command("sbatch", *small, *options, SCRIPT, file).strip()

        def wait(what, seconds=600):
            logs = tmp_path.glob("job-*.log")
            wait_for(what, seconds, otherwise=lambda: "\n".join(log.read_text() for log in logs))

        def done():
            return len(results.raw_records(run, "pairs"))

        first = submit("--time=2", "--signal=B:TERM@60")
        wait(lambda: cluster.job(first)["Restarts"] == "1")
        log = tmp_path / f"job-{first}.log"
        assert "Interrupted by SIGTERM. To continue" in log.read_text()
        assert f"job {first} goes back into the queue" in log.read_text()
        before = done()
        assert 0 < before < 36
        # Slurm lets two minutes pass before a requeued job starts again.
        wait(lambda: cluster.job(first)["JobState"] == "PENDING")
        cluster.command("scontrol", "update", f"JobId={first}", "StartTime=now", "TimeLimit=60")
        wait(lambda: done() > before)
        assert f"a: 9 minima (9 done), 36 paths ({before} done)" in log.read_text()

        cluster.command("scancel", first)
        wait(lambda: not cluster.command("squeue", "--noheader").strip())
        assert cluster.job(first)["JobState"] == "CANCELLED", "it is not requeued"
        cancelled = done()
        assert cancelled < 36
        second = submit()
        wait(lambda: cluster.job(second)["JobState"] not in ("PENDING", "RUNNING", "COMPLETING"))
        log = tmp_path / f"job-{second}.log"
        assert cluster.job(second)["JobState"] == "COMPLETED", log.read_text()
        assert f"36 paths ({cancelled} done)" in log.read_text()
        assert "TO-score" in log.read_text()

    times = results.times_completed(run)
    assert len(times) == TASKS and set(times.values()) == {1}
    assert len({row["worker"] for row in results.raw_records(run, "pairs")}) == 2
    said = toscore("run", file, "--in-process", "--set", f"store={tmp_path}/alone")
    assert said.code == 0, said.err
    assert results.bits(tmp_path / "alone" / "a") == results.bits(run)
