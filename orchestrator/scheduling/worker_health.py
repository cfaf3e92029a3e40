"""Which workers do not answer, and which answer and yet do not move: a pure judge of what they say.

Workers are asked every few seconds how far they are, and answer on a thread of their own. So there are
two signs of trouble. A worker that is *silent* is stopped, or cannot run even that thread. A worker that
is *still* answers, always the same: it waits for a lock, a device or a file that never comes, or its task
is slow. How long a task may rest differs by orders of magnitude between networks, so it is measured
against the longest rest that a task of its kind has taken in this run; before there is one to compare
with, nobody is taken for hung, and a long rest is only told.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


@dataclass(frozen=True)
class Limits:
    """Times in seconds."""

    silent: float = 120.0
    """A worker that does not answer for so long is replaced."""
    still: float = 600.0
    """No task that has rested for less than this is looked at."""
    slow_factor: float = 5.0
    """A rest of so many times the longest one of its kind is told."""
    hung_factor: float = 20.0
    """A rest of so many times the longest one of its kind ends the worker."""


class Finding(Enum):
    SILENT = "no answer"
    HUNG = "answers and does not move"
    SLOW = "slow"


@dataclass(frozen=True)
class Verdict:
    """Of one worker: what is the matter, for how many seconds, and with which task if it is known."""

    worker: str
    finding: Finding
    seconds: float
    key: str = ""


@dataclass
class _Rest:
    """A task that runs, and since when it has been as far as it is."""

    share: float
    kind: str
    since: float
    told: bool = False


@dataclass
class _Pulse:
    asked_at: float | None = None
    rests: dict[str, _Rest] = field(default_factory=dict)


class Heartbeat:
    """Takes in questions and answers, and judges; the time comes in with each call."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._pulses: dict[str, _Pulse] = {}
        self._longest: dict[str, float] = {}

    def asked(self, worker: str, now: float) -> None:
        """A worker was asked how far it is; a question that is still open is not asked again."""
        pulse = self._pulses.setdefault(worker, _Pulse())
        if pulse.asked_at is None:
            pulse.asked_at = now

    def heard(
        self, worker: str, progress: Mapping[str, float], kinds: Mapping[str, str], now: float
    ) -> None:
        """A worker answered.

        Args:
            worker: which one.
            progress: of each task that it runs, by key, the share that is done.
            kinds: of its tasks, by key: rests are compared within a kind.
            now: seconds on a clock that does not run backwards.
        """
        pulse = self._pulses.setdefault(worker, _Pulse())
        pulse.asked_at = None
        for key, rest in list(pulse.rests.items()):
            if progress.get(key) != rest.share:  # it moved, or is over
                rested = now - rest.since
                self._longest[rest.kind] = max(self._longest.get(rest.kind, 0.0), rested)
                del pulse.rests[key]
        for key, share in progress.items():
            pulse.rests.setdefault(key, _Rest(share, kinds.get(key, ""), now))

    def gone(self, worker: str) -> None:
        """A worker was lost, and what it ran with it: how long that rested says nothing."""
        self._pulses.pop(worker, None)

    def verdicts(self, now: float) -> list[Verdict]:
        """Who is in trouble; a slow task is told once for each rest, the others until they are gone."""
        found = []
        for worker, pulse in self._pulses.items():
            if pulse.asked_at is not None and now - pulse.asked_at > self.limits.silent:
                found.append(Verdict(worker, Finding.SILENT, now - pulse.asked_at))
                continue
            found += [
                v for key, rest in pulse.rests.items() if (v := self._of(worker, key, rest, now))
            ]
        return found

    def _of(self, worker: str, key: str, rest: _Rest, now: float) -> Verdict | None:
        limits, rested = self.limits, now - rest.since
        longest = self._longest.get(rest.kind)
        if longest is not None and rested > max(limits.still, limits.hung_factor * longest):
            return Verdict(worker, Finding.HUNG, rested, key)
        if not rest.told and rested > max(limits.still, limits.slow_factor * (longest or 0.0)):
            rest.told = True
            return Verdict(worker, Finding.SLOW, rested, key)
        return None
