"""A real Ray cluster on which the processes of workers end while they start."""

import os

import pytest

from orchestrator.scheduling.executor import WorkersUnavailable
from orchestrator.scheduling.outcome import Ending
from orchestrator.telemetry import events
from tests.benchmarks.many_pairs import Instant
from tests.helpers.stand_in_workers import driven_by

pytestmark = [pytest.mark.usefixtures("home_of_ray"), pytest.mark.slow, pytest.mark.timeout(180)]


class Dying(Instant):
    """A worker whose process ends while it starts, as that of a kernel that is out of memory."""

    def __init__(self, context, name, stopping):
        os._exit(1)


class DyingSecond(Instant):
    """The same of `worker-1` alone; the other one takes long enough for that to happen."""

    seconds = 2.0

    def __init__(self, context, name, stopping):
        if name == "worker-1":
            os._exit(1)
        super().__init__(context, name, stopping)


def test_a_run_of_which_no_worker_can_start_ends_and_says_why(tmp_path):
    """Ray restarts the processes without end; the run ends after a few of them, with a sentence."""
    seen = []
    with pytest.raises(WorkersUnavailable, match=r"No worker can start: .*its process ended"):
        driven_by(Dying, tmp_path, seen.append, count=4)
    assert "could not start" in next(e.cause for e in seen if isinstance(e, events.WorkerLost))


def test_a_run_goes_on_with_the_workers_that_can_start(tmp_path):
    """One of two cannot start: the other completes the run, and the first one is reported."""
    seen = []
    _, outcome = driven_by(DyingSecond, tmp_path, seen.append, count=4)
    assert outcome.ending is Ending.COMPLETE
    (*_, last) = [e for e in seen if isinstance(e, events.WorkerLost)]
    assert last.worker == "worker-1" and "could not start" in last.cause
