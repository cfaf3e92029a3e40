"""A real S3 server on loopback, from a package of the registry, to be stopped and started at will."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import obstore
from obstore.store import S3Store

from tests.helpers.waiting import wait_for

BUCKET = "toscore"
KEY, SECRET = "test-key", "test-secret-that-must-not-be-printed"


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Neighbouring ports that are free, and free 10,000 higher, where the server has its own talk."""
    while True:
        base = random.SystemRandom().randrange(20_000, 50_000)
        ports = list(range(base, base + count))
        if all(_free(port) and _free(port + 10_000) for port in ports):
            return ports


def program() -> Path | None:
    """The server's program; None where its package is not installed."""
    found = Path(sys.executable).with_name("weed")
    return found if found.exists() else None


@dataclass
class S3Server:
    """SeaweedFS with one bucket; what it holds survives `stop` and `start`."""

    folder: Path
    host: str = "127.0.0.1"
    """The address that it listens on."""
    ports: list[int] = field(default_factory=lambda: free_ports(4))
    process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self.ports[0]

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs in its environment."""
        return {
            "AWS_ENDPOINT_URL": f"http://{self.host}:{self.port}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [
                str(program()),
                "mini",
                f"-dir={self.folder}",
                f"-ip={self.host}",
                f"-ip.bind={self.host}",
                f"-bucket={BUCKET}",
                "-s3.autoCreateBucket=false",
                "-admin.ui=false",
                "-webdav=false",
                *(f"-{n}={p}" for n, p in zip(_PORTS, self.ports, strict=True)),
            ],
            env={**os.environ, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

        def answers() -> bool:
            assert self.process is not None and self.process.poll() is None, "the S3 server ended"
            return self._answers()

        wait_for(answers)

    def stop(self) -> None:
        """Kill it, as a power cut would."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        """Whether the bucket is there."""
        store = S3Store(
            BUCKET,
            endpoint=f"http://{self.host}:{self.port}",
            access_key_id=KEY,
            secret_access_key=SECRET,
            region="us-east-1",
            client_options={"allow_http": True, "timeout": timedelta(seconds=2)},
            retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=2)},
        )
        try:
            list(obstore.list(store))
        except (obstore.exceptions.BaseError, OSError):
            return False
        return True


_PORTS = ("s3.port", "master.port", "volume.port", "filer.port")


@contextlib.contextmanager
def running(folder: Path) -> Iterator[S3Server]:
    server = S3Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
