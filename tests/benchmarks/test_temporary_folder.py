"""What ten thousand tasks leave in Ray's temporary folder."""

import os
from pathlib import Path

import pytest
import ray

from orchestrator.scheduling.outcome import Ending
from orchestrator.telemetry import events
from tests.benchmarks.many_pairs import Instant
from tests.helpers.stand_in_workers import driven_by


class Quiet(Instant):
    """An instant worker with the counters that metrics are made of."""

    def counters(self):
        return {}


PAIRS = 142 * 141 // 2


def size_of(folder):
    """Bytes on the disk of all files below a folder."""
    files = (Path(root) / name for root, _, names in os.walk(folder) for name in names)
    return sum(file.lstat().st_blocks * 512 for file in files if not file.is_symlink())


@pytest.mark.slow
@pytest.mark.usefixtures("home_of_ray")
@pytest.mark.timeout(400)
def test_rays_temporary_folder_does_not_grow_with_tasks(tmp_path):
    """Between the first and the last of 10,000 tasks it grows by less than a megabyte: 100 bytes a task."""
    done, sizes = 0, []

    def notify(event):
        nonlocal done
        done += isinstance(event, events.TaskCompleted)
        if isinstance(event, events.TaskCompleted) and done in (500, PAIRS):
            sizes.append(size_of(ray._private.worker._global_node.get_session_dir_path()))

    _, outcome = driven_by(Quiet, tmp_path, notify, count=142)
    assert outcome.ending is Ending.COMPLETE and done == PAIRS
    assert sizes[1] - sizes[0] < 1_000_000, sizes
