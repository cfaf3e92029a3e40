"""Intervals contain what they promise."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.topo_core.homology.test_barcodes import landscapes
from topo_core.homology.barcodes import barcode
from topo_core.homology.bottleneck_distance import bottleneck
from topo_core.homology.sampling_error import (
    HeightInterval,
    certify,
    height_interval,
    jackknife,
    standard_error,
)
from topo_core.homology.to_scores import to_score


@given(landscapes(complete=True), st.data())
def test_any_heights_inside_the_intervals_stay_within_epsilon(landscape, data):
    """The true barcode, death by death and in the bottleneck distance, and the true score."""
    losses, heights = landscape
    sizes = st.floats(0, 3)
    intervals = {
        pair: HeightInterval(height, height - data.draw(sizes), height + data.draw(sizes))
        for pair, height in heights.items()
    }
    true = {
        (i, j): max(data.draw(st.floats(h.low, h.high)), losses[i], losses[j])
        for (i, j), h in intervals.items()
    }
    certificate = certify(losses, intervals)
    found = barcode(losses, true)
    for known, bar in zip(certificate.bars, found.bars, strict=True):
        assert known.death_low <= bar.death <= known.death_high
    assert bottleneck(certificate.barcode, found) <= certificate.epsilon + 1e-12
    assert certificate.to_score_low <= to_score(found) <= certificate.to_score_high
    assert abs(to_score(found) - certificate.to_score) <= certificate.epsilon + 1e-12


def test_an_uncertain_pass_that_holds_no_bar_does_no_harm():
    """Epsilon is about the bars and not about the worst height."""
    exact = HeightInterval(2.0, 2.0, 2.0)
    vague = HeightInterval(9.0, 6.0, 99.0)
    certificate = certify([0.0, 1.0, 1.0], {(0, 1): exact, (0, 2): exact, (1, 2): vague})
    assert certificate.epsilon == 0.0


def test_interval_of_a_height():
    """The bracket counts upwards only, a standard error both ways."""
    interval = height_interval(1.0, 0.25, standard_error=0.125)
    assert interval == HeightInterval(1.0, 0.75, 1.5)


def test_standard_error_of_a_subset():
    """The spread of the means of many subsets of a fixed population is what is predicted."""
    draw = torch.Generator().manual_seed(3)
    population = torch.rand(60, generator=draw, dtype=torch.float64) ** 3
    subsets = [population[torch.randperm(60, generator=draw)[:20]] for _ in range(3000)]
    spread = float(torch.stack([subset.mean() for subset in subsets]).std())
    predicted = [standard_error(subset.tolist(), 60) for subset in subsets]
    assert spread == pytest.approx(sum(predicted) / len(predicted), rel=0.05)
    assert standard_error(population.tolist(), 60) == 0.0


@given(landscapes(least=2, complete=True))
def test_jackknife_leaves_out_one_minimum(landscape):
    """Each score is that of the barcode of the remaining minima."""
    losses, heights = landscape
    found = jackknife(losses, heights)
    for left_out, score in found.scores.items():
        rest = {m: loss for m, loss in enumerate(losses) if m != left_out}
        kept = {pair: height for pair, height in heights.items() if left_out not in pair}
        assert score == to_score(barcode(rest, kept))


def test_jackknife_of_an_unconnected_barcode_is_infinite():
    """Without minimum 1 nothing joins 0 and 2, and the error says that the score hangs on it."""
    found = jackknife([0.0, 1.0, 2.0], {(0, 1): 3.0, (1, 2): 3.0})
    assert found.standard_error == math.inf
    assert found.most_influential == 1
