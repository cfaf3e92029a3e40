"""`toscore watch`: a run while it goes, on a page of this machine.

The page is made from one look at the store, so its parts agree with each other, and it says when that
look was. The standard library serves it; nothing is written anywhere.
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from orchestrator.analysis.landscape import Landscape
from orchestrator.dashboard.progress import Driver, DriverWatch, Progress, progress
from orchestrator.report.anytime import AnytimeBar, anytime_bars, anytime_figure, score_bounds
from orchestrator.report.figure import Table
from orchestrator.report.page import TEMPLATES, Number, figure_values, render_template, shown
from orchestrator.report.style import number
from orchestrator.run_file.errors import UserError
from orchestrator.runs.stored_run import StartedRun
from orchestrator.telemetry.durations import human_seconds
from workers.storage.objects import StoreUnreachable

LEAST_SECONDS = 1.0
"""Between two looks at the store."""

SHARE = 0.2
"""Of the time, at most this much goes into looking: a page must not slow down what it shows."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; "
    "connect-src 'self'; img-src data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True)
class Look:
    """One look at a run, and what was made of it."""

    progress: Progress
    landscape: Landscape
    adaptive: bool
    trouble: str = ""

    @cached_property
    def bars(self) -> list[AnytimeBar]:
        if not self.landscape.minima:
            return []
        return anytime_bars(self.landscape, adaptive=self.adaptive)

    def to_json(self) -> dict[str, Any]:
        """What `state.json` says."""
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
                    "settled": _finite(bar.settled),
                    "death": _finite(bar.death),
                    "decided": bar.decided,
                }
                for bar in self.bars
            ],
        }

    def html(self, template: str) -> str:
        """The page, or its inside."""
        look, landscape, bars = self.progress, self.landscape, self.bars
        figure = None
        if bars:
            figure = figure_values(anytime_figure(landscape, bars), files=False)
        unfinished: dict[str, list[Any]] = {
            "task": [task.task for task in look.unfinished],
            "epoch": [task.epoch for task in look.unfinished],
            "of": [task.epochs for task in look.unfinished],
        }
        workers: dict[str, list[Any]] = {
            "worker": [w.name for w in look.workers],
            "tasks": [w.done for w in look.workers],
            "work": [human_seconds(w.seconds) for w in look.workers],
            "last result": [
                w.last.strftime("%H:%M:%S UTC") if w.last else "–" for w in look.workers
            ],
        }
        return render_template(
            template,
            look=look,
            headline=headline(look),
            trouble=self.trouble,
            numbers=_numbers(look, bars, landscape.minima_expected - len(landscape.minima)),
            figure=figure,
            failures=landscape.failures,
            damage=landscape.damage,
            unfinished=shown(Table(unfinished)),
            workers=shown(Table(workers)),
        )


def headline(look: Progress) -> str:
    """How the run stands, in a sentence."""
    if look.complete:
        return "Complete."
    match look.driver:
        case Driver.RUNNING:
            rest = f", about {human_seconds(look.eta)} left" if look.eta is not None else ""
            return f"Running{rest}."
        case Driver.UNKNOWN:
            return "Not complete; whether its driver is alive shows in a moment."
        case Driver.QUIET:
            return f"Not complete; {look.driver_described} has not been heard of for a while."
        case Driver.LEFT:
            return "Not complete, and nobody runs it: toscore run goes on with it."


def _numbers(look: Progress, bars: Sequence[AnytimeBar], minima_left: int) -> list[Number]:
    done = sum(worker.seconds for worker in look.workers)
    low, high = score_bounds(bars)
    if not bars or minima_left:
        score = Number("TO-score", "not known yet", "minima are still to come")
    elif low == high:
        score = Number("TO-score", number(high), "elder rule")
    else:
        score = Number("TO-score", f"{number(low)} to {number(high)}", "elder rule, undecided")
    lowest = [Number("Lowest loss so far", number(bars[0].birth))] if bars else []
    return [score, *lowest, Number("Work so far", human_seconds(done), "all tasks together")]


def _finite(value: float) -> float | None:
    return value if abs(value) != float("inf") else None


class Watcher:
    """Looks at the store when somebody asks, but not more often than is good for the run."""

    def __init__(self, run: StartedRun, clock: Callable[[], float] = time.monotonic) -> None:
        self._run, self._clock = run, clock
        self._driver = DriverWatch(clock)
        self._lock = threading.Lock()
        self._look: Look | None = None
        self._next = -float("inf")
        self._pages: dict[str, bytes] = {}

    def look(self) -> Look:
        """The newest look."""
        with self._lock:
            return self._fresh()

    def page(self, template: str) -> bytes:
        """The newest look as HTML."""
        with self._lock:
            look = self._fresh()
            if template not in self._pages:
                begun = self._clock()
                self._pages[template] = look.html(template).encode()
                self._next += (self._clock() - begun) / SHARE
            return self._pages[template]

    def _fresh(self) -> Look:
        begun = self._clock()
        if self._look is None or begun >= self._next:
            self._look = self._taken()
            self._pages.clear()
            took = self._clock() - begun
            self._next = begun + max(LEAST_SECONDS, took / SHARE)
        return self._look

    def _taken(self) -> Look:
        try:
            landscape = self._run.landscape()
            driver = self._driver.look(self._run.store.objects)
            seen = progress(self._run, landscape, driver)
        except StoreUnreachable as error:
            if self._look is None:
                raise
            return replace(self._look, trouble=f"The store does not answer now: {error}")
        return Look(seen, landscape, self._run.plan.adaptive)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], watcher: Watcher) -> None:
        super().__init__(address, _Handler)
        self.watcher = watcher


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        # A page of another site that had its name point here must not read the run.
        if not self._asked_by_our_name():
            self._answer(
                HTTPStatus.FORBIDDEN, "text/plain", b"Ask for this machine by its own name.\n"
            )
            return
        path = self.path.partition("?")[0]
        make = _ROUTES.get(path)
        if make is None:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"There is no such page.\n")
            return
        kind, content = make
        try:
            data = content(self.server.watcher)
        except StoreUnreachable as error:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", f"{error}\n".encode())
            return
        self._answer(HTTPStatus.OK, kind, data)

    def _asked_by_our_name(self) -> bool:
        bound = str(self.server.server_address[0])
        if bound not in LOOPBACK:
            return True
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        return host.strip("[]") in LOOPBACK

    def _answer(self, status: HTTPStatus, kind: str, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # whoever asked has left
            self.send_response(status)
            for name, value in HEADERS.items():
                self.send_header(name, value)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not news."""


_ROUTES: Mapping[str, tuple[str, Callable[[Watcher], bytes]]] = {
    "/": ("text/html", lambda watcher: watcher.page("watch.html")),
    "/inside.html": ("text/html", lambda watcher: watcher.page("watch_fragment.html")),
    "/state.json": ("application/json", lambda w: json.dumps(w.look().to_json()).encode()),
    "/watch.js": ("text/javascript", lambda watcher: (TEMPLATES / "watch.js").read_bytes()),
}


def serve(run: StartedRun, host: str, port: int) -> _Server:
    """A server that is bound and not yet serving; port 0 takes a free one.

    Raises:
        UserError: the address cannot be had.
    """
    try:
        return _Server((host, port), Watcher(run))
    except OSError as error:
        raise UserError(
            f"{host}:{port} cannot be served at ({error.strerror}): choose another --port, 0 for a "
            "free one, or another --host."
        ) from None


def url_of(server: _Server) -> str:
    """Where a browser finds it."""
    host, port = str(server.server_address[0]), server.server_address[1]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
