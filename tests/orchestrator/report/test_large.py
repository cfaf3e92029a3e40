"""A report of a thousand minima and twenty thousand paths: its size, and how fast it opens.

The paths are made by hand, with all that a real record has: a profile of 91 places, an interval around
its height, dips inside the path, a history, and the norms of the gradient at its points.
"""

import time

import numpy as np
import pytest

from tests.helpers.browser import opened
from tests.helpers.command import toscore
from tests.helpers.made_run import Shape, made_run

MINIMA, PATHS = 1_000, 20_000
MEGABYTES, SECONDS = 20, 3.0


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_a_large_report_is_small_and_opens_at_once(tmp_path):
    """Under 20 MB, and drawn within 3 s of being asked for."""
    source = np.random.default_rng(0)
    losses = (0.05 + 0.1 * source.random(MINIMA)).tolist()
    made = made_run(tmp_path, MINIMA, pairs={"rule": "random", "per_minimum": 40})
    made.minima(dict(enumerate(losses)))
    pairs = list(made.plan.pairs())[:PATHS]
    made.paths(
        {(i, j): max(losses[i], losses[j]) + 0.2 * source.random() for i, j in pairs},
        losses,
        Shape(samples=91, valleys=2, norms=5),
    )
    begun = time.perf_counter()
    said = toscore("report", made.folder)
    wrote = time.perf_counter() - begun
    assert said.code == 0, said.err
    page = made.folder / "report.html"
    size = page.stat().st_size / 1e6
    begun = time.perf_counter()
    with opened(page.as_uri()) as seen:
        timing = "performance.getEntriesByType('navigation')[0].loadEventEnd"
        took = seen.page.evaluate(timing) / 1e3
        assert seen.errors == [] and seen.overflow() <= 0
    dips = len((made.folder / "figures" / "dips.csv").read_text().splitlines()) - 1
    print(
        f"{len(pairs):,} paths, {dips:,} dips: written in {wrote:.0f} s, {size:.1f} MB, opened in "
        f"{took:.2f} s"
    )
    assert dips > PATHS
    assert len(pairs) == PATHS and size < MEGABYTES and took < SECONDS
