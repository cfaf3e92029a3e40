"""Counts starts of workers that fail before the worker joins, and decides when to stop trying.

A start fails in two ways. The worker **raises** an error: a missing file, or a module that cannot be
imported. Or its **process ends**: the memory of the node does not suffice, a library or a driver is missing,
or a signal ended it. A raised error is likely to come again on every worker, and an ended process may be an
accident.
"""

from collections.abc import Collection
from dataclasses import dataclass, field


@dataclass(frozen=True)
class StartPolicy:
    """Limits for failed starts."""

    attempts: int = 3
    """Failed starts in a row after which a worker is not started again."""
    in_all: int = 30
    """Failed starts after which the run ends if no worker has ever joined: more than the workers of one node
    can cause before workers on other nodes start."""


@dataclass
class _Starts:
    failed: int = 0
    raised: bool = False


@dataclass
class _NodeStarts:
    failed: int = 0
    joined: int = 0


@dataclass
class WorkerStarts:
    """Counts the failed starts of each worker, on each node and in all.

    Attributes:
        policy: the limits.
        any_joined: whether a worker has ever joined.
    """

    policy: StartPolicy = field(default_factory=StartPolicy)
    any_joined: bool = False
    _workers: dict[str, _Starts] = field(default_factory=dict)
    _nodes: dict[str, _NodeStarts] = field(default_factory=dict)
    _in_all: int = 0

    def failed(self, worker: str, node: str, cause: str, *, raised: bool, times: int = 1) -> str:
        """Record failed starts of a worker.

        Args:
            worker: its name.
            node: on which it started; empty if unknown.
            cause: a few words.
            raised: whether the worker has raised an error; false if its process has ended.
            times: how often it has failed since the last call.

        Returns:
            Words for the user: why it failed, how often, and whether the node is the likely cause.
        """
        starts = self._workers.setdefault(worker, _Starts())
        starts.failed += times
        starts.raised = raised
        self._in_all += times
        often = f" ({starts.failed} times)" if starts.failed > 1 else ""
        text = f"it could not start{often}: {cause}"
        if node:
            here = self._nodes.setdefault(node, _NodeStarts())
            here.failed += times
            text += f"; node {node}: {here.failed} failed starts, {here.joined} workers joined"
        return text if self.may_try(worker) else f"{text}; it is not started again"

    def joined(self, worker: str, node: str = "") -> None:
        """Record that a worker has joined: its failed starts do not count any more."""
        self.any_joined = True
        self._workers.pop(worker, None)
        if node:
            self._nodes.setdefault(node, _NodeStarts()).joined += 1

    def may_try(self, worker: str) -> bool:
        """Whether to start the worker again."""
        return self._workers.get(worker, _Starts()).failed < self.policy.attempts

    def is_hopeless(self, working: Collection[str], others: Collection[str]) -> bool:
        """Whether the run should end, because no worker can start.

        Args:
            working: workers that have joined and were not lost.
            others: the other workers.
        """
        if working:
            return False
        if all(self._cannot_start(worker) for worker in others):
            return True
        return not self.any_joined and self._in_all >= self.policy.in_all

    def _cannot_start(self, worker: str) -> bool:
        starts = self._workers.get(worker, _Starts())
        return starts.raised or starts.failed >= self.policy.attempts
