"""The `toscore` command as a process of its own, to be killed at a scripted point."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
# Ray runs workers at nice 15, where on two cores they starve beside the tests of a second process.
NORMAL_PRIORITY = {"RAY_worker_niceness": "0"}


def environment(home: Path) -> dict[str, str]:
    """Ours, without what a cluster would leave in it, and with a HOME that may be written to."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return {**kept, **NORMAL_PRIORITY, "PYTHONPATH": str(ROOT), "HOME": str(home), "COLUMNS": "100"}


@contextlib.contextmanager
def started(folder: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A running `toscore`; whatever is left of it and of its children at the end is killed."""
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
    """Wait for something to be seen while a process runs.

    Raises:
        AssertionError: the process ended, or the time is up; with what it printed.
    """
    deadline = time.monotonic() + seconds
    while not what():
        if process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode}: {process.communicate()[0]}")
        if time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"not seen in {seconds} s: {process.communicate()[0]}")
        time.sleep(0.02)


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Ray's worker processes that run our actors."""
    children = psutil.Process(process.pid).children(recursive=True)
    found = []
    for child in children:
        with contextlib.suppress(psutil.Error):
            if "WorkerActor" in " ".join(child.cmdline()):
                found.append(child)
    return found
