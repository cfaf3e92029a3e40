"""Interprets Ray's errors about a lost worker: its process ended, its node left, or its start failed."""

import re
from typing import Literal

import ray
from ray.exceptions import RayActorError, RayTaskError

from orchestrator.scheduling.messages import Loss

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
"""Matches the colour codes in the tracebacks that Ray passes on from its workers."""


def cause_of_loss(error: Exception, node: str) -> Literal[Loss.CRASHED, Loss.PREEMPTED]:
    """Whether only the worker's process has ended, possibly because of its pack, or its node has left.

    Args:
        error: that Ray raised for the worker.
        node: Ray's identifier of its node.
    """
    if getattr(error, "preempted", False):
        return Loss.PREEMPTED
    alive = {n["NodeID"] for n in ray.nodes() if n["Alive"]}
    return Loss.CRASHED if node in alive else Loss.PREEMPTED


def could_not_start(error: RayActorError) -> bool:
    """Whether the actor's constructor raised, so that Ray does not restart the actor."""
    return bool(getattr(error, "actor_init_failed", False)) or "creation task" in str(error)


def cause(error: Exception) -> str:
    """One line that describes an error.

    It is the last line of a traceback from a worker, which names the exception, and else the first line.
    """
    lines = [line.strip() for line in _ANSI.sub("", str(error)).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1] if isinstance(error, RayTaskError) or _started_badly(error) else lines[0]


def _started_badly(error: Exception) -> bool:
    return isinstance(error, RayActorError) and could_not_start(error)
