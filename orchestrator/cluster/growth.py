"""How many workers a run asks for, and a report when there are none."""

import ray

from orchestrator.cluster.connection import ClusterSettings
from orchestrator.scheduling.executor import NoWorkers

ABSENCE_SECONDS = 60.0
"""Seconds without a worker after which a message says so: a worker starts within a few seconds, a node within
minutes."""


def wanted_workers(settings: ClusterSettings, gpus: float, joined: int) -> int:
    """The number of workers to aim for.

    It is the number in the run file. For `auto` it is the number that fits on the cluster and, on a cluster
    that was not started here, at least twice the number that have joined, so that an autoscaler adds nodes as
    long as it can.

    Args:
        settings: of the cluster.
        gpus: of a worker.
        joined: number of workers that have joined.
    """
    wanted = settings.resources.workers
    if wanted != "auto":
        return wanted
    resource, share = ("GPU", gpus) if gpus else ("CPU", 1.0)
    room = int(ray.cluster_resources().get(resource, 0.0) / share)
    return room if settings.address is None else max(room, 1, 2 * joined)


class AbsenceReports:
    """Reports, once in `ABSENCE_SECONDS`, that no worker is there.

    Args:
        gpus: of a worker, for the message.
        now: seconds on a monotonic clock.
    """

    def __init__(self, gpus: float, now: float) -> None:
        self._needs = f"1 CPU and {gpus:g} GPUs" if gpus else "1 CPU"
        self._since = now

    def check(self, now: float, joined: int) -> NoWorkers | None:
        """The report that is due, if any.

        Args:
            now: seconds on a monotonic clock.
            joined: number of workers that have joined.
        """
        if not joined and now - self._since <= ABSENCE_SECONDS:
            return None
        self._since = now
        if joined:
            return None
        return NoWorkers(
            "no worker has joined: nodes are still starting, or none has room for a worker "
            f"({self._needs}); `ray status` shows the nodes"
        )
