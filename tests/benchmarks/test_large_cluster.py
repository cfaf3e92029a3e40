"""Hundreds of GPUs in simulated time."""

import pytest

from tests.benchmarks.large_cluster import Simulation


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
