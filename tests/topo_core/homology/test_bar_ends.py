"""Which bars end at verified saddles, and why the barcodes of paths and of saddles differ."""

import math
from dataclasses import replace

from topo_core.homology.bar_ends import (
    EndKind,
    RefinedPeak,
    bar_differences,
    bar_ends,
    transition_network_of,
)
from topo_core.homology.barcodes import barcode

LOSSES = {0: 0.0, 1: 0.2, 2: 0.3}
HEIGHTS = {(0, 1): 1.0, (1, 2): 0.5, (0, 2): 1.5}
BARS = barcode(LOSSES, HEIGHTS)


def saddle(loss, ends):
    return RefinedPeak("saddle", loss, 1e-10, (-0.5, 0.1), (1e-6, 1e-6), ends)


def ends_of(peaks):
    return {end.minimum: end for end in bar_ends(LOSSES, HEIGHTS, BARS, peaks, 1e-3)}


def test_a_saddle_that_joins_the_two_basins():
    """It need not join the ends of the path: 2 and 0 lie in the basins that 1 and 0 represent."""
    ends = ends_of({(0, 1): saddle(1.0, (0, 2)), (1, 2): saddle(0.5, (2, 1))})
    assert [end.kind for end in ends.values()] == [EndKind.SADDLE, EndKind.SADDLE]


def test_a_saddle_that_does_not_lead_lower():
    """Between 1 and 2, above the path that already joins them, or back to where it came from."""
    for joined in ((1, 2), (1, 1)):
        end = ends_of({(0, 1): saddle(1.0, joined)})[1]
        assert end.kind is EndKind.ATTAINED and "does not lead lower from 1" in end.reason


def test_a_path_that_does_not_rise():
    """A bar of no length has no barrier; a longer one whose path only falls from its other end has one."""
    flat = replace(saddle(0.2, (0, 1)), verdict="no barrier")
    losses, heights = {0: 0.0, 1: 0.2}, {(0, 1): 0.2}
    (end,) = bar_ends(losses, heights, barcode(losses, heights), {(0, 1): flat}, 1e-3)
    assert end.kind is EndKind.NO_BARRIER
    losses, heights = {0: 0.0, 1: 0.2, 2: 0.0}, {(0, 1): 0.2, (1, 2): 0.2}
    ends = bar_ends(losses, heights, barcode(losses, heights), dict.fromkeys(heights, flat), 1e-3)
    assert {end.minimum: end.kind for end in ends} == {
        1: EndKind.NO_BARRIER,
        2: EndKind.ATTAINED,
    }


def test_ends_that_are_no_saddles():
    """Not followed, a kink, another verdict, and a descent to a minimum not in the run."""
    peak = saddle(1.0, (0, 1))
    assert ends_of({})[1].reason == "its path was not led over saddles"
    assert ends_of({(0, 1): replace(peak, verdict="kink")})[1].kind is EndKind.KINK
    flat = ends_of({(0, 1): replace(peak, verdict="not stationary")})[1]
    assert flat.kind is EndKind.ATTAINED and "not stationary" in flat.reason
    higher = ends_of({(0, 1): replace(peak, loss=1.1)})[1]
    assert higher.kind is EndKind.ATTAINED and "higher than the path" in higher.reason
    for ends in (None, (0, 7)):
        assert "not in the run" in ends_of({(0, 1): replace(peak, ends=ends)})[1].reason


def compared(peaks, tolerance=2e-3):
    ends = bar_ends(LOSSES, HEIGHTS, BARS, peaks, tolerance)
    network = transition_network_of(LOSSES, peaks)
    return {d.minimum: d for d in bar_differences(BARS, ends, network, tolerance)}


def test_no_difference_where_all_peaks_are_saddles():
    """The heights of the paths are those of the saddles up to the tolerance."""
    assert not compared({(0, 1): saddle(0.9995, (0, 1)), (1, 2): saddle(0.4999, (1, 2))})


def test_each_difference_has_a_reason():
    """Nothing verified, a path that stopped above its saddle, and a saddle above a path."""
    missing = compared({(0, 1): saddle(1.0, (0, 1))})
    assert list(missing) == [2] and math.isinf(missing[2].saddle_death)
    assert "no verified saddle leads lower" in missing[2].reason
    assert "not led over saddles" in missing[2].reason
    lower = compared({(0, 1): saddle(0.8, (0, 1)), (1, 2): saddle(0.5, (1, 2))})
    assert list(lower) == [1] and lower[1].saddle_death == 0.8
    assert "saddle between 0 and 1 is lower than every path" in lower[1].reason
    higher = compared({(0, 1): saddle(1.0, (0, 1)), (0, 2): saddle(1.4, (0, 2))})
    assert "a path is lower than every verified saddle" in higher[2].reason
