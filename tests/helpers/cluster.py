"""A real Ray head for tests: own ports, own HOME, own token; ended by its pid, never by `ray stop`."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.helpers.process import NORMAL_PRIORITY, ROOT
from tests.helpers.waiting import wait_for

RAY = str(Path(sys.executable).with_name("ray"))
FAST_HEALTH_CHECKS = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}


@dataclass(frozen=True)
class Head:
    """A running head. `token` is what its clients have to show."""

    host: str
    gcs_port: int
    dashboard_port: int
    token: str
    home: Path
    metrics_port: int = 8080
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"{self.host}:{self.gcs_port}"

    @property
    def dashboard(self) -> str:
        return f"http://{self.host}:{self.dashboard_port}"

    def environment(self, **more: str) -> dict[str, str]:
        """Of a process that may use the cluster."""
        return cluster_environment(self.home, self.token) | self.extra | more


def cluster_environment(home: Path, token: str) -> dict[str, str]:
    """The environment of this process without variables of other clusters, with its own HOME and token."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "AWS_"))}
    return (
        kept
        | NORMAL_PRIORITY
        | {
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "100",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": token,
            "RAY_DEDUP_LOGS": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
        }
    )


def free_ports(count: int) -> list[int]:
    """Ports that are free now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def head(home: Path, *options: str, **extra: str) -> Iterator[Head]:
    """A head on this machine that listens on loopback; `extra` goes into its environment."""
    ports = free_ports(7)
    names = (
        "dashboard-agent-listen-port",
        "dashboard-agent-grpc-port",
        "metrics-export-port",
        "ray-client-server-port",
        "runtime-env-agent-port",
    )
    quick = {"RAY_metrics_report_interval_ms": "1000"}
    one = Head(
        *("127.0.0.1", ports[0], ports[1], secrets.token_hex(16), home),
        metrics_port=ports[2 + names.index("metrics-export-port")],
        extra=quick | extra,
    )
    # Sockets live below the temporary folder, and a socket's path may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as temporary:
        command = [
            *(RAY, "start", "--head", "--block", f"--node-ip-address={one.host}"),
            *(f"--port={one.gcs_port}", "--dashboard-host=127.0.0.1"),
            *(f"--dashboard-port={one.dashboard_port}", f"--temp-dir={temporary}"),
            *("--include-log-monitor=false", "--object-store-memory=100000000"),
            *(f"--{name}={port}" for name, port in zip(names, ports[2:], strict=True)),
            *options,
        ]
        log = home / "head.log"
        with log.open("w") as out, daemon(command, one.environment(), out):
            wait_for_dashboard(one, log)
            yield one
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def daemon(
    command: Sequence[str], environment: dict[str, str], out: object
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that starts others in its session; they end with it."""
    process = subprocess.Popen(
        list(command),
        env=environment,
        stdout=out,  # type: ignore[arg-type]
        stderr=subprocess.STDOUT,
        start_new_session=True,
        cwd=environment["HOME"],
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        for left in of_session(process.pid, environment["HOME"]):
            with contextlib.suppress(psutil.Error):
                left.kill()
        process.kill()
        process.wait()


def of_session(session: int, home: str) -> list[psutil.Process]:
    """The processes of a session that have its HOME; to Ray's, a HOME of their own is given in tests."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == session and process.environ().get("HOME") == home:
                found.append(process)
    return found


def wait_for_dashboard(one: Head, log: Path, seconds: float = 90) -> None:
    """Wait until the head accepts jobs."""
    wanted = urllib.request.Request(
        f"{one.dashboard}/api/version", headers={"Authorization": f"Bearer {one.token}"}
    )

    def answers() -> bool:
        try:
            urllib.request.urlopen(wanted, timeout=5).close()
        except (urllib.error.URLError, OSError):
            return False
        return True

    wait_for(answers, seconds, otherwise=lambda: log.read_text()[-3000:])
