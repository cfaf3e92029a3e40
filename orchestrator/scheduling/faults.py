"""Finds the cause of failures: a task, a worker, or something that all tasks share.

* A **worker** is the cause of failures of kind `FailureKind.WORKER` (a broken CUDA context, no memory on
  the machine, data that are missing on its node, expired credentials). It is started again. It is drained
  (stopped for good) if different tasks fail on it and it completes none in between.
* A **task** is the cause if it broke `max_attempts` workers that had completed other tasks.
* A **shared** cause is assumed if many tasks in a row fail for the same reason and none completes. The run
  then gives up and names the reason, instead of marking thousands of tasks as failed.
"""

import re
from dataclasses import dataclass, field

from orchestrator.scheduling.policy import Policy
from workers.tasks.results import Failed, FailureKind

ONE_CAUSE = frozenset({FailureKind.BUG, FailureKind.BAD_INPUT})
"""Kinds of failures that, if all tasks have them, are caused by the network, the data or the installation."""


@dataclass
class _Worker:
    completed: int = 0
    failures: int = 0
    tasks: set[str] = field(default_factory=set)


class WorkerFaults:
    """Counts the completed tasks of each worker, and its failures since the last; kept over restarts."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._workers: dict[str, _Worker] = {}

    def completed(self, worker: str) -> None:
        """Record that a worker has completed a task: its set-up works."""
        record = self._workers.setdefault(worker, _Worker())
        record.completed += 1
        record.failures = 0
        record.tasks.clear()

    def failed(self, worker: str, key: str) -> None:
        """Record that the set-up of a worker made the task `key` fail."""
        record = self._workers.setdefault(worker, _Worker())
        record.failures += 1
        record.tasks.add(key)

    def is_proven(self, worker: str) -> bool:
        """Whether the worker has completed a task in this run, so that a task may have broken it later."""
        return worker in self._workers and self._workers[worker].completed > 0

    def is_beyond_repair(self, worker: str) -> bool:
        """Whether the worker should be drained: it has failed too often since its last completed task."""
        record = self._workers.get(worker, _Worker())
        return (
            len(record.tasks) >= self._policy.broken_by
            or record.failures >= self._policy.broken_starts
        )


class CircuitBreaker:
    """Counts consecutive failures with the same cause, to end a run in which every task fails."""

    def __init__(self, policy: Policy) -> None:
        self._limit = policy.same_failures
        self._cause = ""
        self._count = 0

    def completed(self) -> None:
        """Record a completed task: the count starts again at zero."""
        self._cause, self._count = "", 0

    def failed(self, failure: Failed) -> str:
        """Record a final failure; return the reason for which the run should give up, or an empty string."""
        if failure.kind not in ONE_CAUSE:
            return ""
        cause = signature(failure)
        self._count = self._count + 1 if cause == self._cause else 1
        self._cause = cause
        if self._count < self._limit:
            return ""
        return (
            f"{self._count} tasks in a row failed for the same reason and none was completed "
            f"({failure.kind.value}: {failure.reason}). Remove the cause."
        )


def signature(failure: Failed) -> str:
    """The kind and reason of a failure, without numbers, addresses and quoted names, which differ by task."""
    text = re.sub(r"'[^']*'|\"[^\"]*\"|0x[0-9a-f]+|\d+", "#", failure.reason)
    return f"{failure.kind.value}: {text[:200]}"
