"""The displays of a run: a table that redraws itself on a terminal, and plain lines elsewhere."""

import sys
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.telemetry.durations import human_seconds
from orchestrator.telemetry.events import (
    ObservedEvent,
    RunFinished,
    RunStarted,
    TaskCompleted,
    TaskFailed,
    TaskSlow,
    Waiting,
    WorkerLost,
    WorkerReplaced,
)
from orchestrator.telemetry.tally import Tally

_BAR_WIDTH = 30

_PLURALS = {
    "minimum": "minima",
    "path": "paths",
    "simplex": "simplices",
    "saddle": "saddles",
}

_LABELS = {"minimum": "loss", "path": "pass", "simplex": "value", "saddle": "loss"}


def _incident(event: ObservedEvent) -> str:
    """The sentence for an event that every display prints at once; empty for all other events."""
    match event:
        case TaskFailed(what=what, failure=failure, reason=reason):
            return f"{what} failed: {failure.value}: {reason}"
        case WorkerLost(worker, how, cause):
            return f"worker {worker} lost: {how} ({cause})"
        case WorkerReplaced(worker, reason, drained):
            done = "is not used any more" if drained else "is started again"
            return f"worker {worker} {done}: {reason}"
        case TaskSlow(what=what, worker=worker, seconds=seconds):
            return (
                f"{what}: no progress for {human_seconds(seconds)}, longer than other tasks took "
                f"({worker})"
            )
        case _:
            return ""


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
            case _:
                if text := _incident(event):
                    style = "yellow" if isinstance(event, TaskFailed) else "dim"
                    # Text instead of a string: reasons hold paths and messages that may look like markup.
                    self._live.console.print(Text(text, style=style))

    def _table(self) -> Table:
        tally = self._tally
        table = Table.grid(padding=(0, 2))
        for kind, label in _PLURALS.items():
            if total := tally.total(kind):
                done = tally.finished(kind)
                full = round(_BAR_WIDTH * min(1.0, done / total))
                bar = f"[green]{'━' * full}[/][dim]{'━' * (_BAR_WIDTH - full)}[/]"
                table.add_row(label, bar, f"{done}/{total}")
        if tally.best is not None:
            table.add_row("passes", f"lowest {tally.best:.4g}   highest {tally.worst:.4g}", "")
        eta = tally.eta()
        rest = f", about {human_seconds(eta)} left" if eta is not None else ""
        failed = f", [yellow]{tally.failed} failed[/]" if tally.failed else ""
        table.add_row(
            "", f"{human_seconds(tally.elapsed)}{rest}{failed}", f"{tally.workers} workers"
        )
        if tally.waiting:
            table.add_row("", Text(f"waiting: {tally.waiting}", style="yellow"), "")
        return table


class PlainLines:
    """One line for each task that ends and each incident, for logs and pipes."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._tally = Tally()

    def __call__(self, event: ObservedEvent) -> None:
        self._tally(event)
        line = self._line(event)
        if line:
            print(line, file=self._stream or sys.stderr, flush=True)

    def _totals(self, event: RunStarted) -> str:
        done = self._tally.finished
        bound = "at most " if event.adaptive else ""
        saddles = ""
        if event.saddles:
            known = done("path") >= event.pairs
            saddles = (
                f", {'' if known else 'at most '}{event.saddles} saddles ({done('saddle')} done)"
            )
        return (
            f"{event.run}: {event.minima} minima ({done('minimum')} done), {bound}{event.pairs} paths "
            f"({done('path')} done){saddles}"
        )

    def _line(self, event: ObservedEvent) -> str:
        match event:
            case RunStarted():
                return self._totals(event)
            case TaskCompleted(what=what, kind=kind, value=value):
                count = f"{self._tally.finished(kind)}/{self._tally.total(kind)}"
                eta = self._tally.eta()
                rest = f", about {human_seconds(eta)} left" if eta is not None else ""
                label = _LABELS.get(kind, "value")
                return f"{what} done ({count}{rest}): {label} {value:.6g}"
            case Waiting(reason):
                return f"waiting: {reason}"
            case _:
                return _incident(event)
