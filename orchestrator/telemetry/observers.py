"""What the driver says while it works: frozen events, and observers that listen.

An observer never changes what happens. The display, the log and the metrics are three of them.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from workers.tasks.results import FailureKind


@dataclass(frozen=True)
class RunStarted:
    run: str
    minima: int
    minima_done: int
    pairs: int
    pairs_done: int
    simplices: int = 0
    simplices_done: int = 0
    adaptive: bool = False
    """Whether `pairs` is a bound: a rule that looks at results may need far fewer."""


@dataclass(frozen=True)
class WorkerCame:
    worker: str
    node: str = ""


@dataclass(frozen=True)
class WorkerWent:
    worker: str
    how: str
    cause: str


@dataclass(frozen=True)
class TaskStarted:
    """`attempt` counts from 1 and grows when a worker was lost or the store was away."""

    key: str
    what: str
    worker: str
    node: str = ""
    attempt: int = 1


@dataclass(frozen=True)
class TaskDone:
    """`kind` is minimum, path or simplex; `figure` its loss, height or value."""

    key: str
    what: str
    kind: str
    figure: float
    worker: str = ""
    node: str = ""
    attempt: int = 1


@dataclass(frozen=True)
class TaskFailed:
    key: str
    what: str
    kind: str
    failure: FailureKind
    reason: str
    worker: str = ""
    node: str = ""
    attempt: int = 1


@dataclass(frozen=True)
class TaskSlow:
    """A task that has not come further for so many seconds, on a worker that answers."""

    key: str
    what: str
    worker: str
    seconds: float


@dataclass(frozen=True)
class Waiting:
    """Nothing can be done for now, and why."""

    reason: str


@dataclass(frozen=True)
class Beat:
    """Every second or so: tasks running, and the sum of their shares done by kind."""

    now: float
    running: int
    workers: int
    share: float = 0.0


@dataclass(frozen=True)
class RunFinished:
    complete: bool
    failed: int
    interrupted: bool


ObservedEvent = (
    RunStarted
    | WorkerCame
    | WorkerWent
    | TaskStarted
    | TaskDone
    | TaskFailed
    | TaskSlow
    | Waiting
    | Beat
    | RunFinished
)
Observer = Callable[[ObservedEvent], None]


def human_seconds(seconds: float) -> str:
    """1.4 s, 38 s, 4 min 05 s, 3 h 20 min, 2 d 4 h."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def _slowness(event: TaskSlow) -> str:
    rest = human_seconds(event.seconds)
    return f"{event.what} has been as far as it is for {rest}, longer than others ({event.worker})"


class Tally:
    """Counts, rates and extremes of a run, from its events alone; every display reads this."""

    def __init__(self) -> None:
        self.started: RunStarted | None = None
        self.done = {"minimum": 0, "path": 0, "simplex": 0}
        self.failed = 0
        self.running = 0
        self.workers = 0
        self.best: float | None = None
        self.worst: float | None = None
        self.waiting = ""
        self._first_beat: float | None = None
        self._now = 0.0
        self._share = 0.0

    def __call__(self, event: ObservedEvent) -> None:
        match event:
            case RunStarted():
                self.started = event
            case TaskDone():
                self.done[event.kind] += 1
                self.waiting = ""
                if event.kind == "path":
                    self.best = event.figure if self.best is None else min(self.best, event.figure)
                    self.worst = max(self.worst or event.figure, event.figure)
            case TaskFailed():
                self.failed += 1
            case Waiting(reason):
                self.waiting = reason
            case Beat(now, running, workers, share):
                self._first_beat = now if self._first_beat is None else self._first_beat
                self._now, self.running, self.workers, self._share = now, running, workers, share
            case _:
                pass

    def total(self, kind: str) -> int:
        s = self.started
        return {"minimum": s.minima, "path": s.pairs, "simplex": s.simplices}[kind] if s else 0

    def finished(self, kind: str) -> int:
        s = self.started
        before = (
            {"minimum": s.minima_done, "path": s.pairs_done, "simplex": s.simplices_done}[kind]
            if s
            else 0
        )
        return before + self.done[kind]

    @property
    def elapsed(self) -> float:
        return self._now - (self._first_beat if self._first_beat is not None else self._now)

    def eta(self) -> float | None:
        """Seconds left at the rate so far of the kind of task that is most of what is left."""
        if self.started is not None and self.started.adaptive:
            return None
        for kind in ("path", "simplex", "minimum"):
            done = self.done[kind] + (self._share if self.done[kind] else 0.0)
            left = self.total(kind) - self.finished(kind) - self._share
            if done and left > 0:
                return self.elapsed * left / done
        return None


class LiveDisplay:
    """A table that redraws itself, for a terminal."""

    def __init__(self, console: Console) -> None:
        self._tally = Tally()
        self._live = Live(
            console=console, get_renderable=self._table, refresh_per_second=4, transient=True
        )
        self._console = console

    def __call__(self, event: ObservedEvent) -> None:
        self._tally(event)
        match event:
            case RunStarted():
                self._live.start()
            case RunFinished():
                self._live.stop()
                self._console.print(self._table())
            case TaskFailed(what=what, failure=failure, reason=reason):
                self._live.console.print(f"[yellow]{what} failed[/]: {failure.value}: {reason}")
            case WorkerWent(worker, how, cause):
                self._live.console.print(f"[dim]{worker} went away: {how} ({cause})[/]")
            case TaskSlow():
                self._live.console.print(f"[dim]{_slowness(event)}[/]")
            case _:
                pass  # the next refresh shows it

    def _table(self) -> Table:
        tally = self._tally
        table = Table.grid(padding=(0, 2))
        for kind, label in (("minimum", "minima"), ("path", "paths"), ("simplex", "simplices")):
            if total := tally.total(kind):
                done = tally.finished(kind)
                bar = "━" * round(30 * done / total)
                table.add_row(
                    label, f"[green]{bar}[/][dim]{'━' * (30 - len(bar))}[/]", f"{done}/{total}"
                )
        if tally.best is not None:
            table.add_row("passes", f"lowest {tally.best:.4g}   highest {tally.worst:.4g}", "")
        eta = tally.eta()
        rest = f", about {human_seconds(eta)} left" if eta is not None else ""
        failed = f", [yellow]{tally.failed} failed[/]" if tally.failed else ""
        table.add_row(
            "", f"{human_seconds(tally.elapsed)}{rest}{failed}", f"{tally.workers} workers"
        )
        if tally.waiting:
            table.add_row("", f"[yellow]waiting: {tally.waiting}[/]", "")
        return table


class PlainLines:
    """One line for each thing that ends, for logs and pipes."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._tally = Tally()

    def __call__(self, event: ObservedEvent) -> None:
        self._tally(event)
        line = self._line(event)
        if line:
            print(line, file=self._stream or sys.stderr, flush=True)

    def _line(self, event: ObservedEvent) -> str:
        match event:
            case RunStarted(run=run, minima=minima, pairs=pairs, minima_done=m, pairs_done=p):
                bound = "at most " if event.adaptive else ""
                return f"{run}: {minima} minima ({m} done), {bound}{pairs} paths ({p} done)"
            case TaskDone(what=what, kind=kind, figure=figure):
                count = f"{self._tally.finished(kind)}/{self._tally.total(kind)}"
                label = {"minimum": "loss", "path": "pass", "simplex": "value"}[kind]
                eta = self._tally.eta()
                rest = f", about {human_seconds(eta)} left" if eta is not None else ""
                return f"{what} done ({count}{rest}): {label} {figure:.6g}"
            case TaskFailed(what=what, failure=failure, reason=reason):
                return f"{what} failed: {failure.value}: {reason}"
            case WorkerWent(worker, how, cause):
                return f"worker {worker} went away: {how} ({cause})"
            case TaskSlow():
                return _slowness(event)
            case Waiting(reason):
                return f"waiting: {reason}"
            case _:
                return ""


class Observers:
    """Several that listen as one, after the tally that all may read."""

    def __init__(self, *observers: Observer) -> None:
        self.tally = Tally()
        self._observers: list[Observer] = [self.tally, *observers]

    def add(self, observer: Observer) -> None:
        self._observers.append(observer)

    def __call__(self, event: ObservedEvent) -> None:
        for observer in self._observers:
            observer(event)


class JsonLines:
    """The structured log: one JSON object an event.

    Every line has `time` (ISO 8601, UTC), `event` and the context; lines about a task have its `key`, what
    it is, and `worker`, `node` and `attempt` of where it runs. Beats are left out.
    """

    def __init__(
        self, stream: TextIO, context: dict[str, Any], clock: Callable[[], datetime]
    ) -> None:
        self._stream, self._context, self._clock = stream, context, clock

    def __call__(self, event: ObservedEvent) -> None:
        if isinstance(event, Beat):
            return
        row = {
            "time": self._clock().isoformat(timespec="milliseconds"),
            "event": type(event).__name__,
            **self._context,
            **asdict(event),
        }
        print(json.dumps(row), file=self._stream, flush=True)
