"""What an error of Ray says about a lost worker: its process, its node or its start."""

import re
from typing import Literal

import ray
from ray.exceptions import RayActorError, RayTaskError

from orchestrator.scheduling.messages import Loss

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
"""Colours, with which Ray heads the tracebacks of its workers."""


def cause_of_loss(error: Exception, node: str) -> Literal[Loss.CRASHED, Loss.PREEMPTED]:
    """Whether only the worker's process has gone, for which its pack may be to blame, or its node."""
    if getattr(error, "preempted", False):
        return Loss.PREEMPTED
    alive = {n["NodeID"] for n in ray.nodes() if n["Alive"]}
    return Loss.CRASHED if node in alive else Loss.PREEMPTED


def could_not_start(error: RayActorError) -> bool:
    """Whether the actor's constructor raised: starting it again would raise again."""
    return bool(getattr(error, "actor_init_failed", False)) or "creation task" in str(error)


def cause(error: Exception) -> str:
    """One line of an error: of a worker's own exception the last, where its traceback names it."""
    lines = [line.strip() for line in _ANSI.sub("", str(error)).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1] if isinstance(error, RayTaskError) or _started_badly(error) else lines[0]


def _started_badly(error: Exception) -> bool:
    return isinstance(error, RayActorError) and could_not_start(error)
