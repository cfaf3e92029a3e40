"""499,500 pairs of 1 ms of sleep each: what orchestration costs, and how soon it goes on after SIGKILL.

    make benchmark            # or: python -m pytest -m benchmark -s tests/benchmarks/test_many_pairs.py

Against one Ray task for each pair, measured in the same run. `make slow` runs a short cut of 1,225 pairs,
which measures nothing.
"""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from orchestrator.analysis.reduction import reduce_run
from tests.benchmarks.many_pairs import plan_of
from tests.helpers import s3_server
from tests.helpers.process import ROOT, environment
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store


def begin(home, *arguments):
    home.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.many_pairs", *map(str, arguments)],
        cwd=ROOT,
        env=environment(home),
        stdout=subprocess.PIPE,
        text=True,
    )


def figures(output):
    """The last row of each kind that a process has printed, and the first `so far`, as `early`."""
    rows = [json.loads(line) for line in output.splitlines()]
    early = [row for row in rows if row["what"] == "so far"][:1]
    events = {row["what"]: row for row in rows}
    return {**events, "early": early[0]} if early else events


def until(process, pairs):
    """SIGKILL when so many pairs are done; what it had printed."""
    output = ""
    for line in process.stdout:
        output += line
        if json.loads(line).get("done", 0) >= pairs:
            break
    process.send_signal(signal.SIGKILL)
    return output + process.communicate()[0]


def to_the_end(process):
    output, _ = process.communicate(timeout=3000)
    assert process.returncode == 0, output
    return figures(output)


def run_killed_and_continued(home, location, minima, *, kill_at, extra=()):
    """The figures of both drivers."""
    pairs = minima * (minima - 1) // 2
    arguments = (location, "--minima", minima, *extra)
    killed = figures(until(begin(home, *arguments), kill_at))
    before = len(Store(open_objects(location)).completed("pairs"))
    assert before < pairs, "it ended before it was killed"
    continued = to_the_end(begin(home, *arguments))
    store = Store(open_objects(location))
    assert continued["ended"]["ending"] == "complete"
    assert continued["ended"]["done"] <= pairs - before  # what was published late counts as well
    assert len(store.completed("pairs")) == pairs
    assert store.table("pairs", ["key"]).num_rows == pairs
    return killed, continued


@pytest.mark.slow
def test_a_short_cut(tmp_path):
    """The driver is killed after a quarter of the pairs and started again: all are there, each once."""
    run_killed_and_continued(tmp_path / "home", str(tmp_path / "run"), 50, kill_at=1225 // 4)


@pytest.mark.benchmark
@pytest.mark.parametrize("kind", ["folder", pytest.param("s3", marks=pytest.mark.s3)])
@pytest.mark.timeout(3600)
def test_half_a_million_pairs(tmp_path, monkeypatch, kind):
    """Prints the figures of docs/many-minima.md; TOSCORE_MINIMA asks for a smaller rehearsal."""
    minima = int(os.environ.get("TOSCORE_MINIMA", "1000"))
    location, pairs = str(tmp_path / "run"), minima * (minima - 1) // 2
    server = s3_server.S3Server(tmp_path / "s3")
    if kind == "s3":
        server.start()
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        location = f"s3://{s3_server.BUCKET}/run"
    try:
        naive = to_the_end(begin(tmp_path / "home", "--baseline", 5_000))["baseline"]
        killed, continued = run_killed_and_continued(
            tmp_path / "home", location, minima, kill_at=pairs // 2
        )
        started = time.perf_counter()
        listed = len(Store(open_objects(location)).completed("pairs"))
        listing = time.perf_counter() - started
        assert listed == pairs
        started = time.perf_counter()
        landscape = reduce_run(plan_of(location, minima), Store(open_objects(location)))
        reduced = time.perf_counter() - started
        assert landscape.complete and landscape.barcodes["elder"].complete
        barcode = time.perf_counter() - started - reduced
    finally:
        server.stop()
    print(f"\n{kind}, {os.cpu_count()} cores, {pairs:,} pairs of 1 ms")
    for name, events, last in (
        ("until SIGKILL", killed, "so far"),
        ("continued", continued, "ended"),
    ):
        row, early = events[last], events["early"]
        each = 1e6 / row["done"]
        print(
            f"{name}: {row['done']:,} pairs, wall {row['wall']:.0f} s, {each * row['wall']:.0f} µs a "
            f"pair; driver's processor {each * row['driver_cpu']:.0f} µs a pair; memory "
            f"{early['memory'] / 1e6:.0f} MB after {early['done']:,} pairs, {row['memory'] / 1e6:.0f} MB "
            f"at the end, {row['peak'] / 1e6:.0f} MB at most"
        )
    each = 1e6 / naive["pairs"]
    print(
        f"one Ray task a pair: wall {each * naive['wall']:.0f} µs, driver's processor "
        f"{each * naive['driver_cpu']:.0f} µs a pair"
    )
    known, ray = (continued["cluster"][name] for name in ("left_known_in", "ray"))
    first = continued["started"]["first_pack_in"]
    print(
        f"started again: what is left was known after {known:.1f} s, Ray took {ray:.1f} s more, the "
        f"first pack went out after {first:.1f} s"
    )
    print(f"list {listing:.1f} s, reduce {reduced:.1f} s, barcodes {barcode:.1f} s")
