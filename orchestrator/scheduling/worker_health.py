"""Which workers do not answer, and which answer and make no progress: a pure function of their answers.

Workers are asked for their progress every few seconds, and answer on a thread of their own. So there are two
signs of trouble. A worker that is *silent* has ended, or cannot run even that thread. A worker that is
*stalled* reports no progress: it waits for a lock, a device or a file, or its task is slow. The normal pause
between two reports of progress differs by orders of magnitude between networks, so a pause is compared with
the longest one of its kind of task in this run. Until there is one, no worker counts as hung, and a long
pause is only reported.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


@dataclass(frozen=True)
class Limits:
    """Times in seconds."""

    silent: float = 120.0
    """A worker that does not answer for so long is replaced."""
    stalled: float = 600.0
    """Pauses that are shorter than this are never reported."""
    slow_factor: float = 5.0
    """A pause of so many times the longest one of its kind is reported."""
    hung_factor: float = 20.0
    """A pause of so many times the longest one of its kind ends the worker."""


class Finding(Enum):
    SILENT = "no answer"
    HUNG = "answers and makes no progress"
    SLOW = "slow"


@dataclass(frozen=True)
class Verdict:
    """A finding on one worker, for how many seconds it has lasted, and the task if it is known."""

    worker: str
    finding: Finding
    seconds: float
    key: str = ""


@dataclass
class _Pause:
    """A running task, and since when it has made no progress."""

    share: float
    kind: str
    since: float
    reported: bool = False


@dataclass
class _Answers:
    asked_at: float | None = None
    pauses: dict[str, _Pause] = field(default_factory=dict)


class WorkerHealth:
    """Judges workers by the times of questions and answers; each call receives the time."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._workers: dict[str, _Answers] = {}
        self._longest: dict[str, float] = {}

    def asked(self, worker: str, now: float) -> None:
        """A worker was asked for its progress; the time of a question without an answer is kept."""
        answers = self._workers.setdefault(worker, _Answers())
        if answers.asked_at is None:
            answers.asked_at = now

    def answered(
        self, worker: str, progress: Mapping[str, float], kinds: Mapping[str, str], now: float
    ) -> None:
        """A worker answered.

        Args:
            worker: which one.
            progress: of each task that it runs, by key, the share that is done.
            kinds: of its tasks, by key: pauses are compared within a kind.
            now: seconds on a clock that does not run backwards.
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
        """A worker was lost: the pauses of its tasks are no measure of normal ones."""
        self._workers.pop(worker, None)

    def verdicts(self, now: float) -> list[Verdict]:
        """Workers in trouble; a slow task is reported once for each pause, the others until `lost`."""
        verdicts = []
        for worker, answers in self._workers.items():
            if answers.asked_at is not None and now - answers.asked_at > self.limits.silent:
                verdicts.append(Verdict(worker, Finding.SILENT, now - answers.asked_at))
                continue
            for key, pause in answers.pauses.items():
                if verdict := self._judge(worker, key, pause, now):
                    verdicts.append(verdict)
        return verdicts

    def _judge(self, worker: str, key: str, pause: _Pause, now: float) -> Verdict | None:
        limits, seconds = self.limits, now - pause.since
        longest = self._longest.get(pause.kind)
        if longest is not None and seconds > max(limits.stalled, limits.hung_factor * longest):
            return Verdict(worker, Finding.HUNG, seconds, key)
        slow = max(limits.stalled, limits.slow_factor * (longest or 0.0))
        if not pause.reported and seconds > slow:
            pause.reported = True
            return Verdict(worker, Finding.SLOW, seconds, key)
        return None
