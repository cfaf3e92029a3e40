"""Faults of a run, each as a function that injects it once."""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.helpers.process import workers_of

Process = subprocess.Popen[str]
Injury = Callable[[Process, random.Random], None]


def kill_a_worker(process: Process, draw: random.Random) -> None:
    """SIGKILL of one of the actors."""
    if victims := workers_of(process):
        _signal(draw.choice(victims), signal.SIGKILL)


def stop_a_worker_for_a_while(process: Process, draw: random.Random) -> None:
    """SIGSTOP, and SIGCONT a little later."""
    if victims := workers_of(process):
        victim = draw.choice(victims)
        _signal(victim, signal.SIGSTOP)
        time.sleep(draw.uniform(0.5, 3.0))
        _signal(victim, signal.SIGCONT)


def kill_the_raylet(process: Process, draw: random.Random) -> None:
    """The node of Ray is lost with all its workers."""
    del draw
    for raylet in raylets_of(process):
        _signal(raylet, signal.SIGKILL)


def kill_the_head(process: Process, draw: random.Random) -> None:
    """The control store of Ray dies."""
    del draw
    for child in _children(process):
        if child.name() == "gcs_server":
            _signal(child, signal.SIGKILL)


def kill_the_driver(process: Process, draw: random.Random) -> None:
    """SIGKILL: nothing is flushed or reported."""
    del draw
    process.kill()


def interrupt_the_driver(process: Process, draw: random.Random) -> None:
    """Ctrl-C or a scheduler's SIGTERM."""
    process.send_signal(draw.choice([signal.SIGINT, signal.SIGTERM]))


PROCESSES: tuple[Injury, ...] = (
    kill_a_worker,
    stop_a_worker_for_a_while,
    kill_the_raylet,
    kill_the_head,
    kill_the_driver,
    interrupt_the_driver,
)


def damage_an_object(run: Path, draw: random.Random) -> None:
    """Tear or flip a published object of a run that is not running."""
    files = [
        file
        for folder in ("records", "minima", "paths", "checkpoints")
        for file in sorted((run / folder).rglob("*.*"))
        if file.is_file() and not file.name.startswith(".")
    ]
    if not files:
        return
    victim = draw.choice(files)
    data = victim.read_bytes()
    if draw.random() < 0.5:
        victim.write_bytes(data[: draw.randrange(len(data))])
    else:
        offset = draw.randrange(len(data))
        victim.write_bytes(data[:offset] + bytes([data[offset] ^ 0x10]) + data[offset + 1 :])


def raylets_of(process: Process) -> list[psutil.Process]:
    """The node of a run on a cluster of its own, once it is there."""
    return [child for child in _children(process) if child.name() == "raylet"]


def _children(process: Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return list(psutil.Process(process.pid).children(recursive=True))
    return []


def _signal(victim: psutil.Process, number: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        os.kill(victim.pid, number)
