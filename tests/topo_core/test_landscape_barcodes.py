"""Barcodes of whole landscapes against grids on which no path was optimised."""

import itertools

import pytest
import torch

from tests.helpers.cubical import distance, grid_bars
from topo_core.barcode import barcode
from topo_core.bottleneck import bottleneck
from topo_core.landscape_barcodes import LandscapeSettings, landscape_barcodes
from topo_core.landscapes import (
    embedded,
    gaussians,
    hills,
    himmelblau,
    muller_brown,
    rastrigin_patch,
    ring_valley,
    sphere_valley,
)
from topo_core.objective import from_function
from topo_core.settings import PathSettings
from topo_core.simplex import SimplexSettings

PASSES = LandscapeSettings(subdivide=True, simplices=SimplexSettings(subdivisions=8))


def agree(landscape, low, high, *, cells=601, scale=1.0):
    """Both indices agree with the grid, up to the certificate and the error of the grid."""
    truth = grid_bars(landscape.objective, low, high, cells)
    found = landscape_barcodes(landscape.objective, landscape.minima, 1, PASSES)
    of_grid = 2e-3 * scale
    for index in (0, 1):
        error = distance(truth[index], found.barcodes[index].bars, of_grid)
        assert error <= found.epsilon[index] + of_grid, (index, error, found.epsilon[index])
    return found


@pytest.mark.parametrize("seed", [1])
def test_hills_and_wells(seed):
    """Random wells and hills: minima, passes that merge, passes that close loops, and hilltops."""
    agree(hills(seed), -6, 6)


@pytest.mark.slow
def test_gaussian_wells():
    """A random sum of wells: the passes between them, and no loop that is not there."""
    agree(gaussians(4), -6, 6)


def test_himmelblau():
    """Four minima, and one loop from the highest pass (178.34) to the hilltop (181.62)."""
    found = agree(himmelblau(), -6, 6, scale=100)
    (bar,) = found.barcodes[1].bars
    assert (bar.birth, bar.death) == pytest.approx((178.33724, 181.61652), abs=1e-3)
    assert found.to_scores[1] == pytest.approx((181.61652 - 178.33724) / 2, abs=1e-3)


@pytest.mark.slow
def test_muller_brown():
    """Three minima of which two merge first, as published; no loop."""
    known = muller_brown()
    found = landscape_barcodes(known.objective, known.minima, 1, PASSES)
    deaths = sorted(bar.death for bar in found.barcodes[0].finite)
    assert deaths == pytest.approx([-72.2489, -40.6648], abs=1e-3)
    assert found.barcodes[1].bars == () and found.to_scores[1] == 0


@pytest.mark.slow
def test_rastrigin_patch():
    """Nine minima on a grid, twelve passes, and a hill in each of the four squares."""
    known = rastrigin_patch()
    # A bowl outside, so that the wells beyond the patch do not take part.
    objective = from_function(
        lambda x: (
            (x**2 + 1 - torch.cos(2 * torch.pi * x.clamp(-1.5, 1.5))).sum(1)
            + 40 * (x.abs() - 1.5).clamp_min(0).square().sum(1)
        ),
        2,
    )
    truth = grid_bars(objective, -2, 2, 401)
    found = landscape_barcodes(objective, known.minima, 1, PASSES)
    for index in (0, 1):
        assert distance(truth[index], found.barcodes[index].bars, 5e-3) <= 5e-3


def test_a_ring_has_one_long_loop():
    """Triangles of minima on a ring: the loop is born at the passes and dies at the centre."""
    known = ring_valley()
    settings = LandscapeSettings(
        PathSettings(start="line"), SimplexSettings(subdivisions=16, height_tolerance=1e-5)
    )
    # A line between opposite minima leads over the centre, and would fill the loop with nothing.
    turned = known.minima + torch.tensor([0.0, 1e-12], dtype=torch.float64)
    found = landscape_barcodes(known.objective, turned, 1, settings)
    first, *rest = sorted(found.barcodes[1].bars, key=lambda bar: -bar.length)
    height = min(known.passes.values())
    assert first.birth == pytest.approx(height, abs=5e-3)
    assert first.death == pytest.approx(1, abs=1e-3)
    # A path over two passes and the two paths beside it are one curve with different nodes on the
    # lattice; the triangle between them cuts across the bend.
    assert all(bar.length < 0.15 for bar in rest)


def test_a_ring_with_two_minima():
    """What triangles cannot see: its two passes join the same two minima, and are edges here."""
    known = ring_valley(2)
    objective, minima = known.objective, known.minima
    truth = grid_bars(objective, -2, 2, 401)
    found = landscape_barcodes(objective, minima, 1, PASSES)
    assert distance(truth[1], found.barcodes[1].bars, 1e-2) <= 1e-3
    line = LandscapeSettings(PathSettings(start="line", epochs=100))
    assert landscape_barcodes(objective, minima, 1, line).barcodes[1].bars == ()


@pytest.mark.slow
def test_the_same_in_a_thousand_dimensions():
    """Turned at random into 1,000 dimensions with a bowl across, the bars stay what they are."""
    known = hills(0)
    flat = landscape_barcodes(known.objective, known.minima, 1, PASSES)
    hidden = embedded(known.objective, 1000, seed=2)
    deep = landscape_barcodes(hidden, hidden.lift(known.minima), 1, PASSES)
    for index in (0, 1):
        error = distance(
            torch.tensor([(b.birth, b.death) for b in flat.barcodes[index].bars]).double().numpy(),
            deep.barcodes[index].bars,
            2e-3,
        )
        assert error <= flat.epsilon[index] + deep.epsilon[index] + 1e-3


@pytest.mark.slow
def test_a_sphere_has_one_cavity():
    """Six minima on a sphere: one long bar of index 2, from the tops of the valley to the centre."""
    known = sphere_valley()
    settings = LandscapeSettings(simplices=SimplexSettings(subdivisions=6))
    found = landscape_barcodes(known.objective, known.minima, 2, settings)
    long_ = [bar for bar in found.barcodes[2].bars if bar.length > 0.2]
    assert len(long_) == 1
    assert long_[0].death == pytest.approx(1, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100))
def test_a_hundred_random_landscapes(seed):
    """``hills`` for a hundred seeds, as above for one."""
    agree(hills(seed), -6, 6)


def test_index_zero_is_that_of_the_paths():
    """The plain form reports the elder barcode of its own paths, and no index it was not asked for."""
    known = muller_brown()
    settings = LandscapeSettings(PathSettings(start="line", epochs=300))
    found = landscape_barcodes(known.objective, known.minima, 0, settings)
    assert set(found.barcodes) == {0} and found.simplices == {}
    assert set(found.heights) == set(itertools.combinations(range(3), 2))
    again = barcode(found.losses, found.heights)
    assert bottleneck(found.barcodes[0], again) == 0


@pytest.mark.parametrize(
    ("count", "max_index", "subdivide", "message"),
    [(1, 1, False, "two minima"), (3, -1, False, "index of 0"), (3, 2, True, "subdivide")],
)
def test_what_makes_no_sense_is_refused(count, max_index, subdivide, message):
    """One sentence that says what to change."""
    known = muller_brown()
    settings = LandscapeSettings(subdivide=subdivide)
    with pytest.raises(ValueError, match=message):
        landscape_barcodes(known.objective, known.minima[:count], max_index, settings)


def test_minibatches_cannot_be_subdivided():
    """Routes and saddles need exact gradients, and the message says so."""
    known = muller_brown()
    noisy = from_function(lambda x: x.square().sum(1), 2)
    object.__setattr__(noisy, "batches", 4)
    with pytest.raises(ValueError, match="exact gradients"):
        landscape_barcodes(noisy, known.minima, 1, PASSES)
