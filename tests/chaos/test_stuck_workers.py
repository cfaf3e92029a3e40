"""Workers that neither die nor go on: one is stopped by a signal, one waits for what never comes."""

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from orchestrator.scheduling.outcome import Ending
from orchestrator.scheduling.worker_health import Limits
from orchestrator.telemetry import events
from tests.benchmarks.many_pairs import Sleeper
from tests.helpers.stand_in_workers import driven_by

pytestmark = [pytest.mark.usefixtures("home_of_ray"), pytest.mark.chaos, pytest.mark.timeout(240)]

STOPPED, HUNG = (0, 2), (1, 2)
# Slow after 6 s and hung after 12: with one limit for both the first look decides which of them is seen.
LIMITS = Limits(silent=6.0, stalled=6.0, slow_factor=1.5, hung_factor=4.0)


class Stuck(Sleeper):
    """Paths of a few seconds; the first worker on two of them gets stuck."""

    seconds = 3.0

    def __init__(self, context, name, stopping):
        super().__init__(context, name)
        self._running = {}

    def progress(self):
        return dict(self._running)

    def counters(self):
        return {}

    def _slept(self, task):
        self._running = {task.key: 0.0}
        if (task.i, task.j) in (STOPPED, HUNG) and self._first(task):
            if (task.i, task.j) == STOPPED:
                os.kill(os.getpid(), signal.SIGSTOP)
            while True:
                time.sleep(1.0)
        try:
            return super()._slept(task)
        finally:
            self._running = {}

    def _first(self, task):
        try:
            (Path(self._context.location) / f"{task.i}-{task.j}.was-here").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


class Woken(Stuck):
    """The first worker on one path is stopped, and continues once it gets SIGCONT."""

    seconds = 1.0

    def _slept(self, task):
        self._running = {task.key: 0.0}
        if (task.i, task.j) == STOPPED and self._first(task):
            (Path(self._context.location) / "stopped").write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)
        self._running = {}
        return Sleeper._slept(self, task)


def test_a_worker_that_is_woken_after_it_was_given_up_does_no_harm(tmp_path):
    """SIGSTOP for longer than a worker may be silent, then SIGCONT: one record of each path, no failure."""
    seen = []

    def notify(event):
        seen.append(event)
        if isinstance(event, events.WorkerLost):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int((tmp_path / "run" / "stopped").read_text()), signal.SIGCONT)

    store, outcome = driven_by(Woken, tmp_path, notify, count=5, limits=LIMITS)
    assert outcome.ending is Ending.COMPLETE and not outcome.failed
    assert store.table("pairs", ["key"]).num_rows == len(store.completed("pairs")) == 10
    (lost,) = [event.cause for event in seen if isinstance(event, events.WorkerLost)]
    assert "no answer" in lost


def test_stuck_workers_are_replaced_and_their_paths_run_by_others(tmp_path):
    """Both are noticed by their heartbeat, every path completes once, nothing fails."""
    seen = []
    store, outcome = driven_by(Stuck, tmp_path, seen.append, count=5, limits=LIMITS)
    assert outcome.ending is Ending.COMPLETE
    assert store.table("pairs", ["key"]).num_rows == len(store.completed("pairs")) == 10
    went = [event.cause for event in seen if isinstance(event, events.WorkerLost)]
    assert len(went) == 2
    assert any("no answer" in cause for cause in went)
    assert any("no progress" in cause for cause in went)
    slow = [event.what for event in seen if isinstance(event, events.TaskSlow)]
    assert f"path {HUNG[0]}–{HUNG[1]}" in slow
