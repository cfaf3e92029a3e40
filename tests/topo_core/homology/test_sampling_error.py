"""The estimated range of every height encloses the barcode."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.topo_core.homology.test_barcodes import landscapes
from topo_core.homology.barcodes import barcode
from topo_core.homology.bottleneck_distance import bottleneck
from topo_core.homology.sampling_error import HeightInterval, estimate_sampling_error
from topo_core.homology.to_scores import to_score


@given(landscapes(complete=True), st.data())
def test_any_heights_inside_the_intervals_stay_within_epsilon(landscape, data):
    """The barcode of the true heights, death by death and in the bottleneck distance, and its score."""
    losses, heights = landscape
    sizes = st.floats(0, 3)
    intervals = {
        pair: HeightInterval(height, height + data.draw(sizes)) for pair, height in heights.items()
    }
    true = {pair: data.draw(st.floats(h.value, h.high)) for pair, h in intervals.items()}
    error, bars = estimate_sampling_error(losses, intervals), barcode(losses, true)
    for low, high, bar in zip(error.barcode.bars, error.deaths_high, bars.bars, strict=True):
        assert low.death <= bar.death <= high
    assert bottleneck(error.barcode, bars) <= error.epsilon + 1e-12
    assert error.to_score <= to_score(bars) <= error.to_score_high
    assert abs(to_score(bars) - error.to_score) <= error.epsilon + 1e-12


def test_an_uncertain_pass_that_holds_no_bar_does_no_harm():
    """Epsilon is the error of the bars and not of the worst height."""
    exact, vague = HeightInterval(2.0, 2.0), HeightInterval(9.0, 99.0)
    error = estimate_sampling_error([0.0, 1.0, 1.0], {(0, 1): exact, (0, 2): exact, (1, 2): vague})
    assert error.epsilon == 0.0


def test_no_error_is_stated_where_nothing_was_estimated():
    """A height without an estimate (the alpha grid of the paper) gives no ± instead of ± 0."""
    error = estimate_sampling_error([0.0, 1.0], {(0, 1): HeightInterval(2.0, math.inf)})
    assert not error.estimated and error.epsilon == math.inf
    # On another path a bar may rest whatever the height without an estimate is.
    both = {(0, 1): HeightInterval(2.0, math.inf), (1, 0): HeightInterval(3.0, 3.5)}
    assert estimate_sampling_error([0.0, 1.0], both).epsilon == 1.5


def test_bars_of_algorithm_1_are_not_stable():
    """Two losses that change their order within 0.001 double the score: no ± exists for direct paths."""
    heights = {(0, 1): 1.0, (0, 2): 3.0, (1, 2): 1.5}
    scores = [
        to_score(barcode([0.0, 0.5 + shift, 0.5005], heights, "direct")) for shift in (0.0, 0.001)
    ]
    assert scores[0] < 0.51 and scores[1] > 1.2
    with pytest.raises(TypeError):
        estimate_sampling_error([0.0, 1.0], {(0, 1): HeightInterval(2.0, 2.0)}, "direct")
