"""The live page shows what is in the store, whatever happens to the run."""

import contextlib
import json
import socket
import threading
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.dashboard.progress import DriverState, DriverWatch, counts_of, seconds_left
from orchestrator.dashboard.server import is_allowed, serve
from orchestrator.dashboard.snapshot import Watcher
from orchestrator.report.anytime import anytime_bars, score_bounds
from orchestrator.runs.stored_run import open_run
from orchestrator.scheduling.lease import STALE_SECONDS, Holder
from tests.helpers.command import toscore
from tests.helpers.made_run import HEIGHTS, LOSSES, complete_run, made_run
from workers.storage.object_names import LEASE
from workers.storage.objects import StoreUnreachable


@contextlib.contextmanager
def serving(folder, host="127.0.0.1", names=()):
    with serve(open_run(str(folder)), host, 0, names) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def get(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        return answer.headers, answer.read().decode()


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self):
        return self.now


def partial(folder, *pairs):
    """All minima, and the paths of these pairs."""
    made = made_run(folder, 4)
    made.minima(dict(enumerate(LOSSES)))
    if pairs:
        made.paths({pair: HEIGHTS[pair] for pair in pairs}, LOSSES)
    return made


def test_a_complete_run_is_shown_as_such(tmp_path):
    """The page and the JSON beside it agree with `reduce --json`."""
    made = complete_run(tmp_path)
    reduced = json.loads(toscore("reduce", made.folder, "--json").out)
    with serving(made.folder) as url:
        headers, page = get(url)
        state = json.loads(get(url + "state.json")[1])
    assert "Complete." in page and "barcode-so-far" in page
    assert "script-src 'self'" in headers["Content-Security-Policy"]
    assert [(c["kind"], c["done"], c["total"]) for c in state["counts"]] == [
        ("minima", 4, 4),
        ("paths", 6, 6),
    ]
    assert [(b["birth"], b["death"]) for b in state["bars"]] == [
        (b["birth"], b["death"]) for b in reduced["barcodes"]["0"]["elder"]
    ]
    assert all(bar["decided"] for bar in state["bars"])


def test_what_is_undecided_holds_what_comes(tmp_path):
    """After every path, each final bar ends between where it is settled and where it ends so far."""
    made = made_run(tmp_path, 4)
    made.minima(dict(enumerate(LOSSES)))
    final = {0: float("inf"), 1: 0.7, 2: 0.5, 3: 0.8}
    before = {m: -float("inf") for m in final}
    for pair in [(2, 3), (0, 1), (0, 2), (0, 3), (1, 3), (1, 2)]:
        made.paths({pair: HEIGHTS[pair]}, LOSSES)
        bars = anytime_bars(open_run(str(made.folder)).landscape(), adaptive=False)
        low, high = score_bounds(bars)
        assert low <= 0.65 / 2 <= high
        for bar in bars:
            assert before[bar.minimum] <= bar.settled <= final[bar.minimum] <= bar.death
            before[bar.minimum] = bar.settled
    assert all(bar.decided for bar in bars)


def test_nothing_is_settled_while_minima_are_missing(tmp_path):
    """A minimum that is to come may be lower than all; not even the infinite bar is decided."""
    made = made_run(tmp_path, 5)
    made.minima(dict(enumerate(LOSSES)))
    made.paths(HEIGHTS, LOSSES)
    bars = anytime_bars(open_run(str(made.folder)).landscape(), adaptive=False)
    assert [bar.settled for bar in bars] == [bar.birth for bar in bars]
    assert not any(bar.decided for bar in bars)
    with serving(made.folder) as url:
        assert "not known yet" in get(url)[1]


def test_nothing_is_settled_while_paths_may_go_on(tmp_path):
    """With rungs a finished path may still go lower."""
    made = partial(tmp_path, (0, 1), (0, 2), (0, 3))
    landscape = open_run(str(made.folder)).landscape()
    assert not any(bar.decided for bar in anytime_bars(landscape, adaptive=True))
    assert any(bar.settled > bar.birth for bar in anytime_bars(landscape, adaptive=False))


def test_failures_are_told_with_their_reason(tmp_path):
    """What failed is named, escaped, and leaves the bars that it might move undecided."""
    made = partial(tmp_path, *[pair for pair in HEIGHTS if pair != (1, 2)])
    made.fails((1, 2), "the loss became <nan>")
    with serving(made.folder) as url:
        page, state = get(url)[1], json.loads(get(url + "state.json")[1])
    assert "path 1–2" in page and "the loss became &lt;nan&gt;" in page
    assert state["counts"][1]["failed"] == 1 and state["counts"][1]["left"] == 0
    assert {b["minimum"] for b in state["bars"] if not b["decided"]} == {2}
    assert "no driver runs it" in page and not state["complete"]


def test_unfinished_tasks_are_those_with_a_checkpoint_alone(tmp_path):
    """A checkpoint that a finished task left behind is not listed."""
    made = partial(tmp_path, (0, 1))
    for pair, epoch in (((0, 1), 30), ((0, 2), 10), ((0, 2), 20)):
        made.store.publish_checkpoint(made.plan.pair_key(pair), epoch, {}, {})
    with serving(made.folder) as url:
        state = json.loads(get(url + "state.json")[1])
    assert state["unfinished"] == [{"task": "path 0–2", "epoch": 20, "epochs": 100}]


def test_other_names_and_other_pages_are_refused(tmp_path):
    """A page of another site that had its name point here learns nothing."""
    made = partial(tmp_path)
    with serving(made.folder) as url:
        for address, headers, code in (
            (url, {"Host": "example.org"}, 403),
            (url + "../../etc/passwd", {}, 404),
            (url + "lease.json", {}, 404),
        ):
            with pytest.raises(urllib.error.HTTPError) as refused:
                get(address, **headers)
            assert refused.value.code == code
        assert get(url, Host=f"localhost:{url.split(':')[-1].strip('/')}")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_name_that_somebody_points_here_is_refused(tmp_path, host):
    """Whatever address is served at: a page of evil.example must not read the run through its visitor."""
    made = partial(tmp_path)
    with serving(made.folder, host, ["watch.lab.example"]) as url:
        port = url.rstrip("/").rpartition(":")[2]
        at = f"http://127.0.0.1:{port}/"
        for name in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", ""):
            with pytest.raises(urllib.error.HTTPError) as refused:
                get(at, Host=name)
            assert refused.value.code in (400, 403)
        for name in ("localhost", f"127.0.0.1:{port}", "Watch.Lab.example"):
            assert get(at, Host=name)


@pytest.mark.parametrize(
    ("host", "bound", "allowed"),
    [
        ("[::1]:8787", "::1", True),
        ("192.0.2.7:8787", "192.0.2.7", True),
        ("192.0.2.7", "0.0.0.0", True),
        ("192.0.2.7", "127.0.0.1", False),
        (socket.gethostname(), "0.0.0.0", True),
        (socket.gethostname(), "127.0.0.1", False),
        ("[::1", "0.0.0.0", False),
        ("localhost.evil.example", "0.0.0.0", False),
        ("2130706433", "127.0.0.1", False),
    ],
)
def test_names_of_this_machine(host, bound, allowed):
    """Its host name and addresses count where it is served to others, and loopback names always."""
    assert is_allowed(host, bound, ()) is allowed


def test_watching_writes_nothing(tmp_path):
    """Every file of the run is as it was."""
    made = partial(tmp_path, (0, 1))
    before = {f: f.stat().st_mtime_ns for f in made.folder.rglob("*")}
    with serving(made.folder) as url:
        get(url), get(url + "state.json"), get(url + "inside.html"), get(url + "watch.js")
    assert {f: f.stat().st_mtime_ns for f in made.folder.rglob("*")} == before


def test_a_port_that_is_taken_is_one_sentence(tmp_path):
    """Exit code 2, and what to do."""
    made = partial(tmp_path)
    with serving(made.folder) as url:
        port = url.rstrip("/").rpartition(":")[2]
        said = toscore("watch", made.folder, "--port", port)
    assert said.code == 2 and "choose another --port" in said.err


def test_snapshots_are_rare_enough_to_leave_the_run_alone(tmp_path):
    """Two requests at once are answered from one snapshot; a later one from a newer snapshot."""
    made = partial(tmp_path, (0, 1))
    clock = Clock()
    watcher = Watcher(open_run(str(made.folder)), clock)
    first = watcher.snapshot()
    made.paths({(0, 2): HEIGHTS[0, 2]}, LOSSES)
    clock.now = 0.5
    assert watcher.snapshot() is first
    clock.now = 1.5
    assert watcher.snapshot().progress.counts[1].done == 2


def test_a_store_that_is_away_is_told_and_not_guessed(tmp_path, monkeypatch):
    """The last snapshot stays, with its time, and that the store does not answer."""
    made = partial(tmp_path, (0, 1))
    clock = Clock()
    run = open_run(str(made.folder))
    watcher = Watcher(run, clock)
    seen = watcher.snapshot()

    def away(*arguments):
        raise StoreUnreachable("no route to host")

    monkeypatch.setattr(type(run), "landscape", away)
    clock.now = 5.0
    assert watcher.snapshot().progress == seen.progress
    assert "no route to host" in watcher.page("watch.html").decode()


def test_a_driver_is_alive_while_its_lease_beats(tmp_path):
    """By our own clock: running while beats come, quiet when they stop, left once released."""
    made = partial(tmp_path)
    objects, clock = made.store.objects, Clock()
    watch = DriverWatch(clock)
    assert watch.state(objects)[0] is DriverState.LEFT

    versions = []

    def lease(beat, **more):
        holder = Holder(
            3, "elsewhere", "another-boot", 17, "2026-01-01T00:00:00", beat=beat, **more
        )
        versions.append(
            objects.swap(LEASE, holder.encode(), versions[-1])
            if versions
            else objects.create(LEASE, holder.encode())
        )
        return watch.state(objects)[0]

    assert lease(1) is DriverState.UNKNOWN
    clock.now = 2
    assert lease(2) is DriverState.RUNNING
    clock.now = 2 + STALE_SECONDS
    assert lease(2) is DriverState.RUNNING
    clock.now = 3 + STALE_SECONDS
    assert lease(2) is DriverState.QUIET
    assert lease(3, released=True) is DriverState.LEFT


def test_the_time_left_is_that_of_the_last_paths(tmp_path):
    """Paths that came every 3 s, six left: 18 s; with minima to come nothing is said."""
    made = partial(tmp_path, (0, 1), (0, 2), (0, 3))
    landscape = open_run(str(made.folder)).landscape()
    finished = {"paths": landscape.passes, "minima": landscape.minima}
    counts = counted(landscape)
    assert counts["paths"].left == 3
    assert seconds_left(list(counts.values()), finished) == pytest.approx(9)
    early = {"paths": {}, "minima": landscape.minima}
    assert seconds_left(list(counts.values()), early) is None


def counted(landscape):
    return {count.kind: count for count in counts_of(landscape)}


def test_times_are_those_of_the_records(tmp_path):
    """When a worker finished its last task is read from the records."""
    made = partial(tmp_path, (0, 1), (2, 3))
    watcher = Watcher(open_run(str(made.folder)))
    progress = watcher.snapshot().progress
    last = max(worker.last for worker in progress.workers)
    assert last == datetime(2026, 1, 2, 3, 5, 5, tzinfo=UTC) + timedelta(seconds=15)
    assert sum(worker.done for worker in progress.workers) == 4 + 2
