"""A snapshot: one reading of the store of a run, from which the live page is made.

All parts of the page come from the same reading, so they are consistent, and the page shows the time of that
reading. Nothing is written to the store.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from orchestrator.analysis.landscape import Landscape
from orchestrator.dashboard.progress import DriverState, DriverWatch, Progress, progress_of
from orchestrator.report.anytime import AnytimeBar, anytime_bars, anytime_figure, score_bounds
from orchestrator.report.figure import Table
from orchestrator.report.page import Number, figure_values, render_template, shown
from orchestrator.report.style import number
from orchestrator.runs.stored_run import StartedRun
from orchestrator.telemetry.durations import human_seconds
from orchestrator.telemetry.json_values import finite_or_none
from workers.storage.objects import StoreUnreachable

LEAST_SECONDS = 1.0
"""Shortest time between two snapshots, in seconds: a reader sees no difference at a higher rate."""

SHARE = 0.2
"""Largest share of the time that is spent on snapshots, so that the page does not slow down the run that it
shows."""


@dataclass(frozen=True)
class Snapshot:
    """The state and the results of a run at one time.

    Attributes:
        progress: tasks, workers and time left.
        landscape: the results at that time.
        adaptive: whether paths are optimised in rungs.
        trouble: why the last attempt to read the store failed; empty if it succeeded.
    """

    progress: Progress
    landscape: Landscape
    adaptive: bool
    trouble: str = ""

    @cached_property
    def bars(self) -> list[AnytimeBar]:
        """The bars of the finished minima and paths; empty before the first minimum."""
        if not self.landscape.minima:
            return []
        return anytime_bars(self.landscape, adaptive=self.adaptive)

    def to_json(self) -> dict[str, Any]:
        """The content of `state.json`."""
        return {
            **self.progress.to_json(),
            "trouble": self.trouble,
            "failures": [asdict(failure) for failure in self.landscape.failures],
            "damaged": [
                {"object": item.name, "reason": item.reason} for item in self.landscape.damage
            ],
            "bars": [
                {
                    "minimum": bar.minimum,
                    "birth": bar.birth,
                    "settled": finite_or_none(bar.settled),
                    "death": finite_or_none(bar.death),
                    "decided": bar.decided,
                }
                for bar in self.bars
            ],
        }

    def html(self, template: str) -> str:
        """Render the whole page (`watch.html`) or the part that changes (`watch_fragment.html`)."""
        progress, landscape, bars = self.progress, self.landscape, self.bars
        figure = None
        if bars:
            figure = figure_values(anytime_figure(landscape, bars), files=False)
        unfinished: dict[str, list[Any]] = {
            "task": [task.task for task in progress.unfinished],
            "epoch": [task.epoch for task in progress.unfinished],
            "of": [task.epochs for task in progress.unfinished],
        }
        workers: dict[str, list[Any]] = {
            "worker": [w.name for w in progress.workers],
            "tasks": [w.done for w in progress.workers],
            "work": [human_seconds(w.seconds) for w in progress.workers],
            "last result": [
                w.last.strftime("%H:%M:%S UTC") if w.last else "–" for w in progress.workers
            ],
        }
        return render_template(
            template,
            progress=progress,
            headline=headline(progress),
            trouble=self.trouble,
            numbers=_numbers(progress, bars, landscape.minima_expected - len(landscape.minima)),
            figure=figure,
            failures=landscape.failures,
            damage=landscape.damage,
            unfinished=shown(Table(unfinished)),
            workers=shown(Table(workers)),
        )


def headline(progress: Progress) -> str:
    """The state of the run in one sentence."""
    if progress.complete:
        return "Complete."
    match progress.driver:
        case DriverState.RUNNING:
            rest = f", about {human_seconds(progress.eta)} left" if progress.eta is not None else ""
            return f"Running{rest}."
        case DriverState.UNKNOWN:
            return "Not complete; whether a driver runs it will be known in a few seconds."
        case DriverState.QUIET:
            return (
                f"Not complete; {progress.driver_described} has not renewed its lease for a while."
            )
        case DriverState.LEFT:
            return "Not complete, and no driver runs it: toscore run continues it."


def _numbers(progress: Progress, bars: Sequence[AnytimeBar], minima_left: int) -> list[Number]:
    done = sum(worker.seconds for worker in progress.workers)
    low, high = score_bounds(bars)
    if not bars or minima_left:
        score = Number("TO-score", "not known yet", "some minima are missing")
    elif low == high:
        score = Number("TO-score", number(high), "elder rule")
    else:
        score = Number("TO-score", f"{number(low)} to {number(high)}", "elder rule, undecided")
    lowest = [Number("Lowest loss so far", number(bars[0].birth))] if bars else []
    return [score, *lowest, Number("Work so far", human_seconds(done), "all workers together")]


class Watcher:
    """Reads the store when a page is requested, but at most as often as `LEAST_SECONDS` and `SHARE` allow.

    Safe to call from several threads.
    """

    def __init__(self, run: StartedRun, clock: Callable[[], float] = time.monotonic) -> None:
        self._run, self._clock = run, clock
        self._driver = DriverWatch(clock)
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._next = -float("inf")
        self._pages: dict[str, bytes] = {}

    def snapshot(self) -> Snapshot:
        """The newest snapshot; reads the store if enough time has passed since the last reading.

        Raises:
            StoreUnreachable: the store could not be read and has never been read before.
        """
        with self._lock:
            return self._fresh()

    def page(self, template: str) -> bytes:
        """The newest snapshot as UTF-8 HTML, rendered with a template; see `snapshot` and `Snapshot.html`."""
        with self._lock:
            snapshot = self._fresh()
            if template not in self._pages:
                begun = self._clock()
                self._pages[template] = snapshot.html(template).encode()
                self._next += (self._clock() - begun) / SHARE
            return self._pages[template]

    def _fresh(self) -> Snapshot:
        begun = self._clock()
        if self._snapshot is None or begun >= self._next:
            self._snapshot = self._taken()
            self._pages.clear()
            took = self._clock() - begun
            self._next = begun + max(LEAST_SECONDS, took / SHARE)
        return self._snapshot

    def _taken(self) -> Snapshot:
        try:
            landscape = self._run.landscape()
            driver = self._driver.state(self._run.store.objects)
            state = progress_of(self._run, landscape, driver)
        except StoreUnreachable as error:
            if self._snapshot is None:
                raise
            return replace(self._snapshot, trouble=f"The store does not answer now: {error}")
        return Snapshot(state, landscape, self._run.plan.adaptive)
