"""499,500 pairs whose work is nothing: what orchestration costs, and how soon it goes on after SIGKILL.

    make benchmark            # or: python -m pytest -m benchmark -s tests/benchmarks/test_many_pairs.py

Against one Ray task for each pair, measured in the same run. The default suite runs a short cut of 1,225
pairs, without looking at the clock.
"""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from orchestrator.reduce import reduce_run
from tests.benchmarks.many_pairs import plan_of
from tests.helpers import s3_server
from tests.helpers.process import ROOT, environment
from workers.objects import open_objects
from workers.store import Store


def begin(home, *arguments):
    home.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.many_pairs", *map(str, arguments)],
        cwd=ROOT,
        env=environment(home),
        stdout=subprocess.PIPE,
        text=True,
    )


def figures(process):
    output, _ = process.communicate(timeout=3000)
    assert process.returncode == 0, output
    return {row["what"]: row for row in map(json.loads, output.splitlines())}


def killed_half_way(process, location, pairs):
    """SIGKILL when about half of the pairs are in the store."""
    store = Store(open_objects(location))
    while process.poll() is None and len(store.completed("pairs")) < pairs / 2:
        time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return len(Store(open_objects(location)).completed("pairs"))


def run_killed_and_continued(home, location, minima):
    pairs = minima * (minima - 1) // 2
    first = begin(home, location, "--minima", minima, "--instant")
    before = killed_half_way(first, location, pairs)
    found = figures(begin(home, location, "--minima", minima, "--instant"))
    store = Store(open_objects(location))
    assert found["ended"]["ending"] == "complete"
    assert len(store.completed("pairs")) == pairs
    assert store.table("pairs", ["key"]).num_rows == pairs
    return before, found


def test_a_short_cut(tmp_path):
    """Half of the pairs, SIGKILL, the other half: all are there, each once."""
    before, found = run_killed_and_continued(tmp_path / "home", str(tmp_path / "run"), 50)
    assert before + (1225 - before) == found["ended"]["pairs"]


@pytest.mark.benchmark
@pytest.mark.parametrize("kind", ["folder", pytest.param("s3", marks=pytest.mark.s3)])
@pytest.mark.timeout(3600)
def test_half_a_million_pairs(tmp_path, monkeypatch, kind):
    """Prints the figures of docs/many-minima.md."""
    location, minima = str(tmp_path / "run"), 1000
    server = s3_server.S3Server(tmp_path / "s3")
    if kind == "s3":
        server.start()
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        location = f"s3://{s3_server.BUCKET}/run"
    try:
        whole = figures(
            begin(tmp_path / "home", f"{location}-whole", "--minima", minima, "--instant")
        )
        naive = figures(begin(tmp_path / "home", "--baseline", 20_000))["baseline"]
        before, continued = run_killed_and_continued(tmp_path / "home", location, minima)
        started = time.perf_counter()
        landscape = reduce_run(plan_of(location, minima), Store(open_objects(location)))
        reduced = time.perf_counter() - started
        assert landscape.complete and landscape.barcodes["elder"].complete
        barcode = time.perf_counter() - started - reduced
    finally:
        server.stop()
    ended, pairs = whole["ended"], whole["ended"]["pairs"]
    each, naively = ended["wall"] / pairs, naive["wall"] / naive["pairs"]
    print(f"\n{kind}, {os.cpu_count()} cores, {pairs:,} pairs")
    print(f"wall {ended['wall']:.0f} s, {1e6 * each:.0f} µs a pair")
    print(f"driver's own time {1e6 * ended['driver_cpu'] / pairs:.0f} µs a pair")
    print(f"one Ray task a pair: {1e6 * naively:.0f} µs, {naively / each:.1f} times as long")
    print(
        f"memory {ended['memory_early'] / 1e6:.0f} MB early, {ended['memory_late'] / 1e6:.0f} MB late"
    )
    print(
        f"killed at {before:,}; what is left was known after {continued['started']['resumed_in']:.1f} s"
    )
    print(f"first pack after {continued['started']['first_pack_in']:.1f} s with a new Ray cluster")
    print(f"reduce {reduced:.1f} s, barcodes {barcode:.1f} s")
