"""Counts tasks, keeps the lowest and highest pass, and estimates the time left, all from the events of a run.

Every display reads a `Tally`, so all displays agree.
"""

import math
import time
from collections import Counter
from collections.abc import Callable

from orchestrator.telemetry.events import (
    ObservedEvent,
    Progress,
    RunStarted,
    TaskCompleted,
    TaskFailed,
    TaskStarted,
    Waiting,
)

KINDS = ("minimum", "path", "simplex", "saddle")

PATHS_PER_SADDLE = 8.0
"""Assumed duration of a saddle task, in durations of a path, until the first one has ended: on the demo a
saddle task took 20 s and a path 2.7 s."""


class Tally:
    """An observer that counts the events of a run.

    Args:
        clock: a monotonic clock, in seconds.

    Attributes:
        started: the last `RunStarted` event.
        done: tasks completed since this driver started, by kind.
        failed: failed tasks since this driver started.
        running: tasks that run now.
        workers: workers that have joined.
        best: height of the lowest pass of this driver's paths; None before the first.
        worst: height of the highest one.
        waiting: why the run cannot continue for now; empty if it can.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.started: RunStarted | None = None
        self.done: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
        self.failed = 0
        self.running = 0
        self.workers = 0
        self.best: float | None = None
        self.worst: float | None = None
        self.waiting = ""
        self._began: float | None = None
        self._kind_began: dict[str, float] = {}
        self._shares: dict[str, float] = {}

    def __call__(self, event: ObservedEvent) -> None:
        match event:
            case RunStarted():
                self.started = event
                self._began = self._clock() if self._began is None else self._began
            case TaskStarted(kind=kind):
                self._kind_began.setdefault(kind, self._clock())
            case TaskCompleted():
                self.done[event.kind] += 1
                self.waiting = ""
                if event.kind == "path" and math.isfinite(event.value):
                    self.best = event.value if self.best is None else min(self.best, event.value)
                    self.worst = event.value if self.worst is None else max(self.worst, event.value)
            case TaskFailed():
                self.failed += 1
            case Waiting(reason):
                self.waiting = reason
            case Progress(running, workers, shares):
                self.running, self.workers, self._shares = running, workers, dict(shares)
            case _:
                pass

    def total(self, kind: str) -> int:
        """Number of tasks of a kind that the run needs, completed ones included."""
        s = self.started
        if s is None:
            return 0
        totals = {
            "minimum": s.minima,
            "path": s.pairs,
            "simplex": s.simplices,
            "saddle": s.saddles,
        }
        return totals.get(kind, 0)

    def finished(self, kind: str) -> int:
        """Number of completed tasks of a kind, those of earlier drivers included."""
        s = self.started
        if s is None:
            return self.done[kind]
        before = {
            "minimum": s.minima_done,
            "path": s.pairs_done,
            "simplex": s.simplices_done,
            "saddle": s.saddles_done,
        }
        return before.get(kind, 0) + self.done[kind]

    @property
    def elapsed(self) -> float:
        """Seconds since the first `RunStarted` event."""
        return 0.0 if self._began is None else self._clock() - self._began

    def eta(self) -> float | None:
        """Estimated seconds left, or None if there is no estimate.

        The rate of a kind is measured from the start of its first task, so the training of minima, which
        comes first, does not lower the rate of paths. There is no estimate for an adaptive pair rule, nor
        while some kind has open tasks and no completed one (except saddles, see `PATHS_PER_SADDLE`).
        """
        if self.started is None or self.started.adaptive:
            return None
        seconds = 0.0
        for kind in KINDS:
            open_tasks = self.total(kind) - self.finished(kind)
            if open_tasks <= 0:
                continue
            share = min(self._shares.get(kind, 0.0), float(open_tasks))
            seconds_each = self._seconds_each(kind)
            if seconds_each is None:
                return None
            seconds += seconds_each * (open_tasks - share)
        return seconds or None

    def _seconds_each(self, kind: str) -> float | None:
        """Seconds that the run as a whole takes per task of a kind; None if unknown."""
        if not self.done[kind]:
            path = self._seconds_each("path") if kind == "saddle" else None
            return None if path is None else PATHS_PER_SADDLE * path
        spent = self._clock() - self._kind_began.get(kind, self._clock())
        return spent / (self.done[kind] + self._shares.get(kind, 0.0))
