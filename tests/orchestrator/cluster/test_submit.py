"""`toscore submit` against a real head: what it runs and returns, and which requests are refused."""

import contextlib
import json
import os
import re
import select
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from orchestrator.run_file.reading import load
from orchestrator.runs.provenance import config_hash
from orchestrator.scheduling.exit_codes import ExitCode
from tests.helpers import results
from tests.helpers.cluster import head
from tests.helpers.command import toscore
from tests.helpers.process import ROOT, wait_until
from tests.helpers.waiting import wait_for
from workers.storage.object_names import STOP

RUN_FILE = """
name: a
store: {folder}/runs
data: "mydata:load"
network: {{name: fc, hidden: [8]}}
minima: {{count: {minima}, epochs: 20, optimizer: {{name: adam, lr: 0.02}}}}
paths: {{bezier_epochs: 1, epochs: {epochs}, points: 9}}
resources: {{workers: 1, gpus_per_worker: 0, checkpoint_seconds: 0}}
"""
CODE = """
import torch

def load():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(400, 1, 4, 4, generator=draw)
    y = (x.flatten(1)[:, :3]).argmax(1)
    return x[:300], y[:300], x[300:], y[300:]
"""
RUN = [sys.executable, "-m", "orchestrator", "run"]
SECRET = "a-secret-key-that-nobody-may-write-down"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with head(home, "--num-cpus=1", "--num-gpus=1", AWS_SECRET_ACCESS_KEY=SECRET) as one:
        yield one


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "mydata.py").write_text(CODE)
    return tmp_path


def write(folder, minima=3, epochs=6):
    file = folder / "code" / "a.yaml"
    file.write_text(RUN_FILE.format(folder=folder, minima=minima, epochs=epochs))
    return file


@contextlib.contextmanager
def submitting(cluster, folder, *arguments, **environment):
    """A `toscore submit` of a machine that knows the cluster's address and token alone."""
    variables = cluster.environment() | environment
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "submit", *map(str, arguments)],
        cwd=folder,
        env={k: v for k, v in variables.items() if v and k != "AWS_SECRET_ACCESS_KEY"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def submit(cluster, folder, *arguments, **environment):
    with submitting(cluster, folder, *arguments, **environment) as process:
        output, _ = process.communicate(timeout=200)
    return process.returncode, output


def wait_for_one(*processes, seconds=120):
    """Until one of the processes has ended."""
    ends = [os.pidfd_open(process.pid) for process in processes]
    try:
        assert select.select(ends, [], [], seconds)[0], f"none ended in {seconds} s"
    finally:
        for end in ends:
            os.close(end)


def jobs(cluster):
    request = urllib.request.Request(
        f"{cluster.dashboard}/api/jobs/", headers={"Authorization": f"Bearer {cluster.token}"}
    )
    with urllib.request.urlopen(request) as answer:
        return {job["submission_id"]: job for job in json.load(answer)}


def metrics_of_the_dashboard():
    """The metrics that the Grafana dashboard asks for."""
    board = json.loads((ROOT / "deploy" / "prometheus" / "grafana.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return {name for text in asked for name in re.findall(r"ray_toscore_\w+", text)}


@pytest.mark.slow
def test_metrics_reach_prometheus(cluster, folder):
    """During a run, every metric that the dashboard asks for can be scraped, and grows."""
    file, run = write(folder, minima=8, epochs=150), folder / "runs" / "a"
    options = ("--address", cluster.dashboard, "--working-dir", folder / "code")
    # Nobody is lost in this run.
    wanted = metrics_of_the_dashboard() - {"ray_toscore_workers_lost_total"}
    assert len(wanted) == 7
    told = ""

    def all_there():
        nonlocal told
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{cluster.metrics_port}") as answer:
                told = answer.read().decode()
        except urllib.error.URLError:  # the node's agent has not started to serve them yet
            return False
        lines = [line for line in told.splitlines() if not line.startswith("#")]
        return all(any(line.startswith(f"{name}{{") for line in lines) for name in wanted)

    with submitting(cluster, folder, file, *options) as process:
        wait_until(all_there, process)
        assert 'kind="path"' in told and 'state="done"' in told
        epochs = re.search(r"^ray_toscore_path_epochs_total\{.*\} (\S+)$", told, re.MULTILINE)
        assert float(epochs[1]) > 0
        assert toscore("stop", run).code == 0
        process.communicate(timeout=120)


@pytest.mark.slow
def test_two_at_once_then_stopped_then_again(cluster, folder):
    """Of two submitted at once one runs and the other names its driver; stopped, the run exits with 4;
    submitted again, under another id, it continues."""
    file, run = write(folder, minima=8, epochs=150), folder / "runs" / "a"
    options = ("--address", cluster.dashboard, "--working-dir", folder / "code")
    with (
        submitting(cluster, folder, file, *options) as first,
        submitting(cluster, folder, file, *options) as second,
    ):
        wait_for_one(first, second)
        refused, running = (first, second) if first.poll() is not None else (second, first)
        output, _ = refused.communicate(timeout=10)
        holder = json.loads((run / "lease.json").read_text())
        assert refused.returncode == 2, output
        assert f"by process {holder['pid']} on {holder['host']} since" in output, output
        wait_until(lambda: results.raw_records(run, "pairs"), running)
        assert toscore("stop", run).code == 0
        output, _ = running.communicate(timeout=120)
    assert running.returncode == ExitCode.STOPPED, output
    assert "minimum 0 done" in output and "To continue: toscore run" in output
    assert not (run / STOP).exists()

    done = len(results.raw_records(run, "pairs"))
    assert 0 < done < 28
    with submitting(cluster, folder, file, *options) as again:
        wait_until(lambda: len(results.raw_records(run, "pairs")) > done, again)
        assert toscore("stop", run).code == 0
        output, _ = again.communicate(timeout=120)
    assert again.returncode == ExitCode.STOPPED, output
    assert f"a: 8 minima (8 done), 28 paths ({done} done)" in output
    assert set(results.times_completed(run).values()) == {1}
    assert len([name for name in jobs(cluster) if name.startswith("toscore-a-")]) == 3


def test_to_the_end(cluster, folder):
    """The log is streamed and the exit code is 0; the bits are those of a single process; who sent the
    code is written down; no file of the run and nothing that Ray shows of the job holds a credential."""
    file, run = write(folder), folder / "runs" / "a"
    options = ("--address", cluster.dashboard, "--working-dir", folder / "code")
    code, output = submit(cluster, folder, file, *options, TOSCORE_REVISION="1234567")
    assert code == 0, output
    assert "minimum 0 done" in output and "TO-score" in output
    status = json.loads(toscore("status", run, "--json").out)
    assert status["complete"]
    origin = status["provenance"]
    assert origin["git_revision"] == "1234567" and origin["packages"]["toscore"]
    assert origin["config_hash"] == config_hash(load(file)) and isinstance(origin["gpus"], list)

    alone = folder / "alone"
    with contextlib.chdir(folder / "code"):
        quiet = toscore("run", file, "--in-process", "--set", f"store={alone}")
    assert quiet.code == 0, quiet.err
    assert results.bits(run) == results.bits(alone / "a")
    for secret in (SECRET, cluster.token):
        assert secret not in json.dumps(jobs(cluster))
        for written in run.rglob("*"):
            assert not written.is_file() or secret.encode() not in written.read_bytes(), written


@pytest.mark.slow
def test_a_shipped_study(cluster, folder):
    """A study is submitted by its name alone, and all its runs are carried out where the cluster is."""
    small = ("minima.count=2", "minima.epochs=1", "paths.epochs=1", "resources.workers=1")
    cells = ("scale=reduced", "matrix.depth=[fc2, fc4]", "matrix.seed=[0]", f"store={folder}/runs")
    options = [f"--set={setting}" for setting in (*small, *cells)]
    code, output = submit(
        cluster, folder, "study:fig2-fmnist", "--address", cluster.dashboard, *options
    )
    assert code == 0, output
    assert "toscore studies study:fig2-fmnist" in output and "TO-scores fall with depth" in output
    found = json.loads(toscore("studies", "study:fig2-fmnist", *options, "--json").out)
    assert [run["complete"] for run in found["runs"]] == [True, True]


@pytest.mark.slow
def test_the_device_is_chosen_where_a_worker_runs(cluster):
    """What is asked of a worker is answered in another process, with a worker's GPU in reach."""
    script = """
import os
from orchestrator.run_file.groups import Resources
from orchestrator.cluster.connection import ClusterSettings, ask_a_worker
settings = ClusterSettings({address!r}, Resources(gpus_per_worker={gpus}))
pid, devices = ask_a_worker(settings, lambda: (os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")))
print(pid != os.getpid(), devices)
"""
    for gpus, seen in ((1, "0"), (0, "")):
        told = subprocess.run(
            [sys.executable, "-c", script.format(address=cluster.address, gpus=gpus)],
            env=cluster.environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout.split() == f"True {seen}".split(), told.stderr


@pytest.mark.slow
def test_detached(cluster, folder):
    """`--detach` returns at once, and the run completes without us."""
    file = write(folder)
    options = ("--address", cluster.dashboard, "--working-dir", folder / "code", "--detach")
    before = jobs(cluster).keys()
    code, output = submit(cluster, folder, file, *options)
    assert code == 0 and f"toscore status {folder / 'runs' / 'a'}" in output
    (mine,) = jobs(cluster).keys() - before
    wait_for(lambda: jobs(cluster)[mine]["status"] not in ("PENDING", "RUNNING"))
    assert jobs(cluster)[mine]["status"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"RAY_AUTH_TOKEN": ""}, "asks for a token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"),
        ({"RAY_AUTH_TOKEN": "0" * 32}, "refused our token: set RAY_AUTH_MODE=token"),
    ],
)
def test_without_the_token(cluster, folder, change, said):
    """Without the token, or with a wrong one, one sentence says what to set."""
    home = folder / "home"
    home.mkdir()
    code, output = submit(
        cluster, folder, write(folder), "--address", cluster.dashboard, HOME=str(home), **change
    )
    assert code == 2, output
    assert said in " ".join(output.split())
    assert len(output.strip().splitlines()) == 1, output
    assert not (folder / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("token", ["", "0" * 32])
def test_a_driver_without_the_token(cluster, folder, token):
    """`run --address` is refused as well, with the same sentence, and no run is started."""
    variables = cluster.environment() | {"RAY_AUTH_TOKEN": token, "HOME": str(folder)}
    refused = subprocess.run(
        [*RUN, write(folder), "--address", cluster.address],
        cwd=folder / "code",
        env={k: v for k, v in variables.items() if v},
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2, refused.stderr
    assert "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN" in refused.stderr.splitlines()[-1]
    assert not results.raw_records(folder / "runs" / "a", "minima")


def test_nobody_there(folder):
    """An address where nothing listens is reported at once, in one sentence."""
    with contextlib.chdir(folder / "code"):
        said = toscore("run", write(folder), "--address", "127.0.0.1:9")
    assert said.code == 2 and "nothing answers there (Connection refused)" in said.err


def test_without_the_token_nothing_can_be_asked(cluster):
    """The jobs of the cluster are not shown without the token."""
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{cluster.dashboard}/api/jobs/")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--address", "http://127.0.0.1:9"), "No Ray head answers at http://127.0.0.1:9"),
        (("--address", "127.0.0.1:6379"), "the head's dashboard, http://HOST:8265"),
        (("--address", "http://h:1", "--working-dir", "nowhere"), "check --working-dir"),
        (("--address", "http://h:1", "--set", "store=runs"), "an absolute folder that every node"),
        (("--address", "http://h:1", "--set", "seed=-1"), "seed is -1"),
    ],
)
def test_what_cannot_be_submitted(folder, arguments, said):
    """Each mistake is one sentence, exit code 2, and nothing is sent or written."""
    with contextlib.chdir(folder):
        result = toscore("submit", write(folder), *arguments)
    assert result.code == 2
    assert said in result.err and len(result.err.strip().splitlines()) == 1
    assert os.listdir(folder) == ["code"]
