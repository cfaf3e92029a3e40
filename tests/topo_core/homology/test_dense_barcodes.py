"""The dense-profile complex against GUDHI on every sample, and a known dip."""

import math

import gudhi
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.topo_core.homology.test_barcodes import values
from topo_core.homology.barcodes import barcode
from topo_core.homology.dense_barcodes import dense_barcode


@st.composite
def sampled(draw):
    """Losses of minima, and paths with a few samples each; plateaus and ties are likely."""
    count = draw(st.integers(2, 4))
    level = st.integers(0, 5).map(float)
    losses = [draw(level) for _ in range(count)]
    profiles = {}
    for i in range(count):
        for j in range(i + 1, count):
            if draw(st.booleans()):
                inner = draw(st.lists(level, min_size=0, max_size=7))
                samples = [losses[i], *inner, losses[j]]
                profiles[i, j] = (np.linspace(0, 1, len(samples)), samples)
    return losses, profiles


@given(sampled())
def test_agrees_with_gudhi_on_all_samples(sample):
    """Contracting monotone stretches changes no bar of positive length."""
    losses, profiles = sample
    tree, free = gudhi.SimplexTree(), len(losses)
    for minimum, loss in enumerate(losses):
        tree.insert([minimum], loss)
    for (i, j), (_, samples) in profiles.items():
        chain = [i, *range(free, free + len(samples) - 2), j]
        free += len(samples) - 2
        for vertex, loss in zip(chain, samples, strict=True):
            tree.insert([vertex], loss)
        for a, b, left, right in zip(chain, chain[1:], samples, samples[1:], strict=False):
            tree.insert([a, b], max(left, right))
    tree.compute_persistence(persistence_dim_max=True)
    theirs = sorted(map(tuple, tree.persistence_intervals_in_dimension(0).tolist()))
    dense = dense_barcode(losses, profiles)
    ours = [bar for bar in values(dense.minima) if bar[0] < bar[1]]
    ours += [(dip.loss, dip.loss + dip.depth) for dip in dense.dips]
    assert sorted(ours) == theirs


@given(sampled())
def test_never_above_the_bars_of_whole_paths(sample):
    """A path that passes a lower point may end there."""
    losses, profiles = sample
    whole = barcode(losses, {pair: max(samples) for pair, (_, samples) in profiles.items()})
    deaths = {bar.minimum: bar.death for bar in whole.bars}
    for bar in dense_barcode(losses, profiles).minima.bars:
        assert bar.death <= deaths[bar.minimum]


def test_a_basin_inside_a_path_is_reported():
    """Its position, its loss and its depth; a ripple is not."""
    positions = np.linspace(0, 1, 9)
    samples = [1.0, 3.0, 2.0, 2.05, 2.0, 5.0, 4.99, 6.0, 0.0]
    dense = dense_barcode([1.0, 0.0], {(0, 1): (positions, samples)}, least=0.02)
    (dip, second) = dense.dips
    assert (dip.pair, dip.position, dip.loss, dip.depth) == ((0, 1), 0.25, 2.0, 1.0)
    assert (second.position, second.depth) == (0.5, pytest.approx(0.05))
    assert values(dense.minima) == [(0.0, math.inf), (1.0, 6.0)]


def test_an_end_that_is_no_minimum():
    """Where the path goes down from its end, the basin is that of the dip, and the bar is empty."""
    samples = [1.0, 0.5, 2.0, 0.0]
    dense = dense_barcode([1.0, 0.0], {(0, 1): (np.linspace(0, 1, 4), samples)})
    assert values(dense.minima) == [(0.0, math.inf), (1.0, 1.0)]
    assert [(dip.loss, dip.depth) for dip in dense.dips] == [(0.5, 1.5)]


def test_a_sample_that_is_not_a_number_is_refused():
    """A path that is left out would disconnect two minima, so it is refused."""
    with pytest.raises(ValueError, match=r"path \(0, 1\) has the loss nan at position 0.5"):
        dense_barcode([1.0, 0.0], {(0, 1): ([0.0, 0.5, 1.0], [1.0, math.nan, 0.0])})


def test_an_infinite_sample_connects_nothing():
    """The two halves of the path keep their dips, and the minima stay apart."""
    samples = [1.0, math.inf, math.inf, 2.0, 3.0, 0.0]
    bars = dense_barcode([1.0, 0.0], {(0, 1): (np.linspace(0, 1, 6), samples)})
    assert values(bars.minima) == [(0.0, math.inf), (1.0, math.inf)]
    assert [(dip.loss, dip.depth) for dip in bars.dips] == [(2.0, 1.0)]
