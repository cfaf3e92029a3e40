"""The `toscore` command in a separate process, which tests can kill at a chosen state."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from tests.helpers.waiting import wait_for

ROOT = Path(__file__).parents[2]
# Ray runs workers at nice 15, where on two cores they starve beside the tests of a second process.
NORMAL_PRIORITY = {"RAY_worker_niceness": "0"}


def environment(home: Path) -> dict[str, str]:
    """The environment of this process without the variables of a cluster, and with a writable HOME."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return {**kept, **NORMAL_PRIORITY, "PYTHONPATH": str(ROOT), "HOME": str(home), "COLUMNS": "100"}


@contextlib.contextmanager
def started(folder: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A running `toscore`; it and its children are killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator", *map(str, arguments)],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    family: list[psutil.Process] = []
    try:
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(process.pid).children(recursive=True)
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            family += psutil.Process(process.pid).children(recursive=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for child in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        process.wait()


def wait_until(
    what: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120
) -> None:
    """Wait for a state while a process runs.

    Raises:
        AssertionError: the process ended, or the time is up; with what it printed.
    """

    def reached() -> bool:
        if what():
            return True
        if process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode}: {process.communicate()[0]}")
        return False

    def output() -> str:
        process.kill()
        return process.communicate()[0]

    wait_for(reached, seconds, otherwise=output, pause=0.02)


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Ray's worker processes that run our actors."""
    children = psutil.Process(process.pid).children(recursive=True)
    found = []
    for child in children:
        with contextlib.suppress(psutil.Error):
            if "WorkerActor" in " ".join(child.cmdline()):
                found.append(child)
    return found
