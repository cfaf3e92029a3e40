"""The bottleneck distance against every matching of small diagrams, and GUDHI where nothing ties."""

import math

import gudhi
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topo_core.homology.barcodes import Barcode, barcode
from topo_core.homology.bottleneck_distance import bottleneck

# Few distinct values, so that ties occur, as well as arbitrary ones.
VALUES = st.one_of(st.integers(0, 4).map(lambda value: value / 2), st.floats(0, 10))
FINITE_BARS = st.lists(st.tuples(VALUES, VALUES).map(sorted).map(tuple), max_size=5)


def least_over_all_matchings(a, b):
    """The definition: over all matchings, the least of the largest distances to a partner or the diagonal."""

    def rest(bars):
        return max(((death - birth) / 2 for birth, death in bars), default=0.0)

    if not a:
        return rest(b)
    bar, others = a[0], a[1:]
    alone = max(rest([bar]), least_over_all_matchings(others, b))
    with_partner = (
        max(
            abs(bar[0] - partner[0]),
            abs(bar[1] - partner[1]),
            least_over_all_matchings(others, b[:index] + b[index + 1 :]),
        )
        for index, partner in enumerate(b)
    )
    return min(alone, *with_partner, math.inf)


@given(FINITE_BARS, FINITE_BARS)
def test_the_least_cost_over_all_matchings(a, b):
    """Bit for bit, in both directions."""
    assert bottleneck(a, b) == bottleneck(b, a) == least_over_all_matchings(a, b)


def test_ties():
    """Found by a search for counterexamples of stability: GUDHI 3.13 says 1.0 here, or 0.5."""
    a = [(0, 0.5), (0, 0.5), (0, 0), (1, 1), (2, 2), (2, 2), (2, 2), (2, 3)]
    b = [(0, 0), (0.5, 0.5), (0.5, 0.5), (1, 1), (1.5, 2), (1.5, 2), (1.5, 2), (2, 3)]
    assert bottleneck(a, b) == 0.25


@pytest.mark.parametrize("noise", [0.01, 1.0])
def test_hundreds_of_bars_by_gudhi(noise):
    """Arbitrary numbers do not tie, and there GUDHI is a second engine."""
    draws = np.random.default_rng(3)
    a = np.sort(draws.random((300, 2)), axis=1)
    b = np.sort(a[:280] + noise * draws.random((280, 2)), axis=1)
    assert bottleneck(a, b) == gudhi.bottleneck_distance(a, b, e=0)


def test_infinite_bars_are_matched_by_birth():
    """Infinite bars cost the difference of their births, and unequal numbers cannot be matched."""
    one = barcode([0.0, 5.0], {})
    other = barcode([0.5, 5.25], {})
    assert bottleneck(one, other) == 0.5
    assert bottleneck(one, Barcode(one.bars[:1], "elder")) == math.inf
    assert bottleneck([(0, math.inf), (1, 4)], [(0.25, math.inf), (1, 2)]) == 1.5


def test_nothing_is_at_no_distance_from_bars_of_no_length():
    """A bar without length is on the diagonal."""
    assert bottleneck([], []) == bottleneck([], [(1, 1), (2, 2)]) == 0
