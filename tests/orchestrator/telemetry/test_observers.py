"""Displays, log and tally: whatever an event holds, the run continues and the log can be read."""

import io
import json
from datetime import UTC, datetime

import pytest
from rich.console import Console

from orchestrator.telemetry import events
from orchestrator.telemetry.display import LiveDisplay, PlainLines
from orchestrator.telemetry.json_log import JsonLines
from orchestrator.telemetry.observers import Observers
from orchestrator.telemetry.tally import Tally
from workers.tasks.results import FailureKind

STARTED = events.RunStarted("demo", minima=2, minima_done=0, pairs=1, pairs_done=0)
MARKUP = "no folder [/data/images] here [red] [/] \\[bold"
FAILED = events.TaskFailed("k", "path 0–1", "path", FailureKind.BUG, MARKUP)
NAN = events.TaskCompleted("k", "path 0–1", "path", float("nan"))
EVERYTHING = [
    STARTED,
    events.WorkerJoined("w", "node"),
    events.Progress(1, 1, {"path": 0.5}),
    events.TaskStarted("k", "path 0–1", "w", kind="path"),
    FAILED,
    events.WorkerLost("w", "its process ended", MARKUP),
    events.WorkerReplaced("w", MARKUP, drained=True),
    events.TaskSlow("k", "path 0–1", "w", 700.0),
    events.Waiting(MARKUP),
    NAN,
    events.RunFinished(False, 1, False),
]


def test_text_that_looks_like_markup_is_shown_as_it_is():
    """A path in brackets is no style: rich would raise, and once killed the driver."""
    screen = io.StringIO()
    display = LiveDisplay(Console(file=screen, force_terminal=True, width=200, color_system=None))
    for event in EVERYTHING:
        display(event)
    assert screen.getvalue().count("[/data/images] here [red] [/] \\[bold") >= 3


def test_plain_lines_say_the_same():
    """One line each for what ends and for incidents, markup and all."""
    lines = io.StringIO()
    plain = PlainLines(lines)
    for event in EVERYTHING:
        plain(event)
    said = lines.getvalue().splitlines()
    assert f"path 0–1 failed: bug: {MARKUP}" in said
    assert "path 0–1: no progress for 11 min 40 s, longer than other tasks took (w)" in said


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_log_is_strict_json(value):
    """JSON has no NaN and no infinity: they become null, and every line can be parsed strictly."""
    stream = io.StringIO()
    log = JsonLines(stream, {"run": "demo"}, lambda: datetime(2026, 1, 1, tzinfo=UTC))
    log(events.TaskCompleted("k", "path 0–1", "path", value))

    def refuse(constant):
        raise AssertionError(constant)

    row = json.loads(stream.getvalue(), parse_constant=refuse)
    assert row["value"] is None and row["event"] == "TaskCompleted"


def test_an_observer_that_raises_stops_nothing(capsys):
    """The others still receive every event; the error is reported once."""
    heard = []

    def broken(event):
        raise RuntimeError("the terminal is gone")

    observers = Observers(broken, heard.append)
    for event in EVERYTHING:
        observers(event)
    assert heard == EVERYTHING
    assert capsys.readouterr().err.count("the terminal is gone") == 1


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_the_time_left_counts_from_the_first_task_of_its_kind():
    """Minima that took an hour say nothing about paths: two of four paths in 20 s leave 20 s."""
    clock = Clock()
    tally = Tally(clock)
    tally(events.RunStarted("demo", minima=1, minima_done=0, pairs=4, pairs_done=0))
    tally(events.TaskStarted("m", "minimum 0", "w", kind="minimum"))
    clock.now = 3600.0
    tally(events.TaskCompleted("m", "minimum 0", "minimum", 0.1))
    assert tally.eta() is None
    tally(events.TaskStarted("a", "path 0–1", "w", kind="path"))
    for clock.now in (3610.0, 3620.0):
        tally(events.TaskCompleted("a", "path 0–1", "path", 0.1))
    assert tally.eta() == pytest.approx(20.0)
    tally(events.Progress(1, 1, {"path": 0.5, "minimum": 0.9}))
    assert tally.eta() == pytest.approx(20.0 * 1.5 / 2.5)


def test_the_time_left_counts_saddles_that_come_after_the_paths():
    """15 paths of 3 s, 5 saddles of 20 s, two workers: right to a factor of 2 from the second path on."""
    clock = Clock()
    tally = Tally(clock)
    started = events.RunStarted(
        "demo", minima=6, minima_done=6, pairs=15, pairs_done=0, saddles=5, saddles_done=0
    )
    tally(started)
    ends = [("path", 3.0 * (n // 2 + 1)) for n in range(15)]
    ends += [("saddle", 24.0 + 20.0 * (n // 2 + 1)) for n in range(5)]
    told = []
    for n, (kind, at) in enumerate(ends):
        clock.now = ends[n - 1][1] if n else 0.0
        tally(events.TaskStarted(str(n), kind, "w", kind=kind))
        clock.now = at
        tally(events.TaskCompleted(str(n), kind, kind, 0.1))
        if at < ends[-1][1] and n:
            told.append((tally.eta(), ends[-1][1] - at))
    assert len(told) > 10
    # While its last tasks run one worker idles, which no rate foresees.
    assert all(left / 2 <= eta <= 2 * left for eta, left in told[:-2])


def test_saddles_are_announced_once_they_are_known():
    """Before the paths are complete their number is an upper bound; then it is counted like the others."""
    lines = io.StringIO()
    plain = PlainLines(lines)
    first = events.RunStarted("r", minima=2, minima_done=2, pairs=1, pairs_done=0, saddles=1)
    plain(first)
    plain(events.TaskCompleted("p", "path 0–1", "path", 0.5))
    plain(first)
    plain(events.TaskCompleted("s", "saddle of path 0–1", "saddle", 0.4))
    said = lines.getvalue().splitlines()
    assert said[0] == "r: 2 minima (2 done), 1 paths (0 done), at most 1 saddles (0 done)"
    assert said[2] == "r: 2 minima (2 done), 1 paths (1 done), 1 saddles (0 done)"
    assert said[3] == "saddle of path 0–1 done (1/1): loss 0.4"


def test_a_kind_of_task_that_a_display_does_not_know_is_counted():
    """Further kinds of tasks break no display."""
    tally = Tally()
    tally(STARTED)
    tally(events.TaskCompleted("s", "saddle 0", "saddle", 0.1))
    assert tally.finished("saddle") == 1 and tally.total("saddle") == 0


@pytest.mark.parametrize("heights", [(0.0, -0.5), (-0.5, 0.0), (-1.0, -0.5, 0.0, -0.7)])
def test_the_highest_pass_may_be_zero(heights):
    """Losses of a formula may be negative: a height of 0 is a height, and not a missing one."""
    tally = Tally()
    tally(STARTED)
    for number, height in enumerate(heights):
        tally(events.TaskCompleted(str(number), "path", "path", height))
    assert (tally.best, tally.worst) == (min(heights), max(heights))
