"""From minima to barcode on functions whose passes are published or known in closed form."""

import itertools
import math

import pytest

import topo_core as tc
from topo_core.reference_landscapes import surfaces as landscapes


def found_barcodes(landscape):
    """Descend to the minima, join all pairs, and reduce: the whole of section 1.2 on a formula."""
    minima = [tc.polish_minimum(landscape.objective, m + 0.02).point for m in landscape.minima]
    losses = [float(landscape.objective.losses(m[None])) for m in minima]
    heights = {
        (i, j): tc.optimize_path(landscape.objective, minima[i], minima[j]).profile.maximum
        for i, j in itertools.combinations(range(len(minima)), 2)
    }
    return {method: tc.barcode(losses, heights, method) for method in ("elder", "direct")}


@pytest.mark.parametrize("method", ["elder", "direct"])
def test_muller_brown(method):
    """Minima and passes of Müller & Brown (1979), Table 1, within 1e-3 relative."""
    bars = found_barcodes(landscapes.muller_brown())[method]
    found = [(bar.birth, bar.death) for bar in bars.bars]
    assert found[0] == (pytest.approx(-146.6995, rel=1e-3), math.inf)
    assert found[1] == (pytest.approx(-108.1667, rel=1e-3), pytest.approx(-40.6648, rel=1e-3))
    assert found[2] == (pytest.approx(-80.7678, rel=1e-3), pytest.approx(-72.2489, rel=1e-3))
    assert tc.to_score(bars) == pytest.approx((108.1667 - 40.6648) / 2, rel=1e-3)


def test_two_wells():
    """(x² - 1)² + y²: both minima at 0 and one pass of height 1, so the TO-score is a half."""
    for bars in found_barcodes(landscapes.two_wells()).values():
        assert [bar.birth for bar in bars.bars] == pytest.approx([0, 0], abs=1e-3)
        assert [bar.death for bar in bars.finite] == pytest.approx([1.0], rel=1e-3)
        assert tc.to_score(bars) == pytest.approx(0.5, rel=1e-3)
