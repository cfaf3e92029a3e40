"""The score without one of the minima."""

import math

from hypothesis import given

from tests.topo_core.homology.test_barcodes import landscapes
from topo_core.homology.barcodes import barcode
from topo_core.homology.resampling import jackknife
from topo_core.homology.to_scores import to_score


@given(landscapes(least=2, complete=True))
def test_jackknife_leaves_out_one_minimum(landscape):
    """Each score is that of the barcode of the remaining minima."""
    losses, heights = landscape
    left_out = jackknife(losses, heights)
    for minimum, score in left_out.scores.items():
        rest = {m: loss for m, loss in enumerate(losses) if m != minimum}
        kept = {pair: height for pair, height in heights.items() if minimum not in pair}
        assert score == to_score(barcode(rest, kept))


def test_jackknife_of_an_unconnected_barcode_is_infinite():
    """Without minimum 1 nothing joins 0 and 2, and the error says that the score hangs on it."""
    left_out = jackknife([0.0, 1.0, 2.0], {(0, 1): 3.0, (1, 2): 3.0})
    assert left_out.standard_error == math.inf
    assert left_out.most_influential == 1
