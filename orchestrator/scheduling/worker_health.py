"""Finds workers that do not answer, and workers that answer but make no progress.

The driver asks each worker for its progress every few seconds, and a separate thread of the worker answers.
This distinguishes two faults. A *silent* worker does not answer: its process has ended, or cannot run even
that thread. A *hung* worker answers and reports no progress: it waits for a lock, a device or a file. The
normal pause between two changes of the progress differs by orders of magnitude between networks, so a pause
is compared with the longest earlier pause of the same kind of task in this run. Until there is one, no worker
counts as hung, and a long pause is only reported as slow.

The module reads no clock: the verdicts are a function of the times that are passed in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


@dataclass(frozen=True)
class Limits:
    """Limits for the pauses of workers; times in seconds."""

    silent: float = 120.0
    """A worker that has not answered for longer is replaced."""
    stalled: float = 600.0
    """A shorter pause is never reported, and never ends a worker."""
    slow_factor: float = 5.0
    """A pause is reported if it is longer than this factor times the longest earlier one of its kind."""
    hung_factor: float = 20.0
    """A worker is replaced if a pause is longer than this factor times the longest earlier one of its
    kind."""


class Finding(Enum):
    """What is wrong with a worker."""

    SILENT = "no answer"
    HUNG = "answers and makes no progress"
    SLOW = "slow"


@dataclass(frozen=True)
class WorkerVerdict:
    """A finding about one worker, its duration in seconds, and the key of the task if it is known."""

    worker: str
    finding: Finding
    seconds: float
    key: str = ""


@dataclass
class _Pause:
    """The last reported progress of a running task, and the time since which it has not changed."""

    share: float
    kind: str
    since: float
    reported: bool = False


@dataclass
class _Answers:
    asked_at: float | None = None
    pauses: dict[str, _Pause] = field(default_factory=dict)


class WorkerHealth:
    """Judges workers from the times of questions and answers; `now` is in seconds on a monotonic clock."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._workers: dict[str, _Answers] = {}
        self._longest: dict[str, float] = {}

    def asked(self, worker: str, now: float) -> None:
        """Record that a worker was asked for its progress; the oldest unanswered question counts."""
        answers = self._workers.setdefault(worker, _Answers())
        if answers.asked_at is None:
            answers.asked_at = now

    def answered(
        self, worker: str, progress: Mapping[str, float], kinds: Mapping[str, str], now: float
    ) -> None:
        """Record the answer of a worker.

        Args:
            worker: its name.
            progress: completed share (0 to 1) of each task that it runs, by key.
            kinds: kind of each of its tasks, by key; pauses are compared within a kind.
            now: seconds on a monotonic clock.
        """
        answers = self._workers.setdefault(worker, _Answers())
        answers.asked_at = None
        for key, pause in list(answers.pauses.items()):
            if progress.get(key) != pause.share:  # the task progressed or ended
                seconds = now - pause.since
                self._longest[pause.kind] = max(self._longest.get(pause.kind, 0.0), seconds)
                del answers.pauses[key]
        for key, share in progress.items():
            answers.pauses.setdefault(key, _Pause(share, kinds.get(key, ""), now))

    def lost(self, worker: str) -> None:
        """Forget a lost worker; the pauses of its tasks do not count as normal ones."""
        self._workers.pop(worker, None)

    def verdicts(self, now: float) -> list[WorkerVerdict]:
        """The present findings: a slow task once per pause, other workers at each call until `lost`."""
        verdicts = []
        for worker, answers in self._workers.items():
            if answers.asked_at is not None and now - answers.asked_at > self.limits.silent:
                verdicts.append(WorkerVerdict(worker, Finding.SILENT, now - answers.asked_at))
                continue
            for key, pause in answers.pauses.items():
                if verdict := self._judge(worker, key, pause, now):
                    verdicts.append(verdict)
        return verdicts

    def _judge(self, worker: str, key: str, pause: _Pause, now: float) -> WorkerVerdict | None:
        limits, seconds = self.limits, now - pause.since
        longest = self._longest.get(pause.kind)
        if longest is not None and seconds > max(limits.stalled, limits.hung_factor * longest):
            return WorkerVerdict(worker, Finding.HUNG, seconds, key)
        slow = max(limits.stalled, limits.slow_factor * (longest or 0.0))
        if not pause.reported and seconds > slow:
            pause.reported = True
            return WorkerVerdict(worker, Finding.SLOW, seconds, key)
        return None
