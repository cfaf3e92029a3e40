"""Hundreds of GPUs in simulated time."""

import pytest

from tests.benchmarks.large_cluster import Simulation
from tests.benchmarks.whole_driver import simulate


def test_a_whole_driver_loses_and_repeats_nothing():
    """The real loop, plan, commit log and store in simulated time, with lost nodes, waves and errors of 1 %:
    the run completes, and every record counts once."""
    figures = simulate(2, 8)
    assert figures["pairs"] == 28 and not figures["twice"]
    assert figures["workers_lost"] > 0


@pytest.mark.slow
def test_a_whole_driver_keeps_a_cluster_busy():
    """With 8 nodes and 3,160 pairs 85 % of the time of all workers count, that before the first minima and
    beside the last paths included, and no iteration of the loop takes 50 ms."""
    figures = simulate(8, 80)
    assert figures["busy_share"] > 0.85 and not figures["twice"]
    assert figures["slowest_event"] < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_large_cluster_is_kept_busy_through_losses(seed):
    """64 nodes of eight GPUs, a node lost every five minutes, waves of 32, 1 % of answers errors: 97 % of
    the time counts, nothing completes twice, no event takes 50 ms, and open tasks are bounded."""
    report = Simulation(64, 300, seed).run()
    assert report.busy_share >= 0.97
    assert report.completed == 300 + 300 * 299 // 2 and not report.twice
    assert report.workers_lost > 500
    assert report.slowest_event < 0.05
    assert report.open_tasks_at_most <= 4096
