"""Spearman's rho against another implementation, and its interval against what it must contain."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from orchestrator.report.correlation import rank_correlation


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=12))
def test_rho_is_that_of_scipy(pairs):
    """With ties as well; undefined exactly where one side is constant."""
    x, y = zip(*pairs, strict=True)
    found = rank_correlation(x, y, "test")
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert math.isnan(found.rho) and "not defined" in found.sentence
    else:
        assert found.rho == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)
        assert -1 <= found.low <= found.high <= 1


def test_the_interval_narrows_with_more_minima():
    """Ten times the pairs, less than half the width; the draws are the same each time."""
    source = np.random.default_rng(1)
    x = source.normal(size=400)
    y = x + source.normal(size=400)
    few, many = rank_correlation(x[:40], y[:40], "w"), rank_correlation(x, y, "w")
    assert many.high - many.low < (few.high - few.low) / 2
    assert few.low < few.rho < few.high
    assert rank_correlation(x, y, "w") == many


def test_the_interval_covers_as_often_as_it_says():
    """Of 80 samples of unrelated pairs, about 95 % of the intervals contain 0."""
    source = np.random.default_rng(2)
    inside = sum(
        found.low <= 0 <= found.high
        for k in range(80)
        for found in [rank_correlation(source.normal(size=20), source.normal(size=20), k)]
    )
    assert 0.87 * 80 <= inside <= 80


def test_a_perfect_order_of_few_is_not_sold_as_certain():
    """Of five pairs in one order the interval is a point; p is 2 of 120, and the sentence warns."""
    found = rank_correlation([1, 2, 3, 4, 5], [9, 7, 5, 3, 1], "few")
    assert (found.low, found.high) == (-1, -1)
    assert found.p == pytest.approx(2 / 120)
    assert "With 5 minima" in found.sentence and "ρ = −1.00" in found.sentence


def test_p_is_that_of_chance():
    """Unrelated pairs have a p below 0.1 about one time in ten, related ones a tiny one."""
    source = np.random.default_rng(3)
    ps = [rank_correlation(*source.normal(size=(2, 12)), k).p for k in range(60)]
    assert 1 <= sum(p < 0.1 for p in ps) <= 13
    x = source.normal(size=50)
    strong = rank_correlation(x, x + 0.1 * source.normal(size=50), "strong")
    assert strong.p < 1e-3 and "few" not in strong.sentence


def test_pairs_without_a_number_are_left_out():
    """A minimum without a test set counts neither in rho nor in n."""
    found = rank_correlation([1, 2, 3, 4], [1, 2, 3, math.nan], "x")
    assert found.count == 3 and found.rho == 1
