"""Barcodes of whole landscapes against grids on which no path was optimised."""

import itertools

import pytest
import torch

from tests.helpers.compared_landscapes import (
    KNOWN,
    PASSES,
    SOLIDS,
    TRIANGLES,
    in_space,
    in_the_plane,
    turned,
)
from tests.helpers.cubical import distance, grid_bars
from topo_core.critical_points.minima import polish_minimum
from topo_core.homology.barcodes import barcode
from topo_core.homology.bottleneck_distance import bottleneck
from topo_core.morse.landscape_results import LandscapeSettings
from topo_core.morse.landscape_search import landscape_barcodes
from topo_core.objectives.protocol import from_function
from topo_core.paths.settings import PathSettings
from topo_core.reference_landscapes.surfaces import (
    embedded,
    gaussians,
    hills,
    himmelblau,
    muller_brown,
    ring_valley,
    sphere_valley,
)
from topo_core.simplices.settings import SimplexSettings


def agrees(row):
    """Bars of every index are within the sampling error of those of the grid's critical points."""
    assert row.agrees, str(row)


@pytest.mark.slow
@pytest.mark.parametrize("make", [hills, gaussians])
@pytest.mark.parametrize("seed", range(100))
def test_a_hundred_random_landscapes(make, seed):
    """Random wells, with and without hills: minima that no descent found, loops around hilltops."""
    agrees(in_the_plane(make, seed))


@pytest.mark.parametrize("seed", [37, pytest.param(76, marks=pytest.mark.slow)])
def test_descents_that_converge_slowly_end_at_no_minima_of_their_own(seed):
    """A point on the floor of a flat valley was a sixth minimum, and a bar of the barcode never ended."""
    agrees(in_the_plane(gaussians, seed))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_random_landscapes_in_space(seed):
    """Three dimensions: loops of passes die at saddles of index 2, not at hilltops."""
    agrees(in_space(seed))


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_known_landscapes(name):
    """Müller-Brown, Himmelblau, Rastrigin and rings, by passes and discs."""
    agrees(KNOWN[name]())


def test_himmelblau():
    """Four minima, and one loop from the highest pass (178.34) to the hilltop (181.62)."""
    known = himmelblau()
    found = landscape_barcodes(known.objective, known.minima, 1, PASSES)
    (bar,) = found.barcodes[1].bars
    assert (bar.birth, bar.death) == pytest.approx((178.33724, 181.61652), abs=1e-3)
    assert found.to_scores[1] == pytest.approx((181.61652 - 178.33724) / 2, abs=1e-3)
    assert found.quiet_rounds == 2


def test_a_path_that_fails_connects_nothing():
    """The line between two of three minima meets losses that are no numbers: they meet over the third.

    The edge is missing from the complex too, and with it every triangle on it.
    """

    def ring(x):
        squares = x.square().sum(1)
        return torch.where(squares < 0.25, torch.nan, (squares - 1).square())

    minima = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    settings = LandscapeSettings(PathSettings(start="line"))
    result = landscape_barcodes(from_function(ring), minima, 1, settings)
    assert set(result.heights) == {(0, 2), (1, 2)}
    assert result.barcodes[0].complete and not result.simplices
    assert result.barcodes[1].bars == ()


def test_index_0_of_the_simplices_stands_beside_that_of_the_paths():
    """A polygon of few points cuts across the ring, so index 0 is given at its heights too, as index 1 is."""
    known = ring_valley()
    coarse = LandscapeSettings(
        PathSettings(start="line"), SimplexSettings(subdivisions=3, epochs=5)
    )
    minima = turned(known).minima[:3]
    result = landscape_barcodes(known.objective, minima, 1, coarse)
    on_lattice, on_paths = result.index_0_of_simplices, result.barcodes[0]
    assert len(on_lattice.bars) == len(on_paths.bars) == 3
    for high, low in zip(
        sorted(bar.death for bar in on_lattice.finite),
        sorted(bar.death for bar in on_paths.finite),
        strict=True,
    ):
        assert high > low + 1e-3
    assert landscape_barcodes(known.objective, minima, 0, coarse).index_0_of_simplices is None


def test_one_minimum_is_enough_to_start_from():
    """Walkers within ``reach`` find the other three of Himmelblau's function."""
    known = himmelblau()
    settings = LandscapeSettings(subdivide=True, reach=6.0)
    found = landscape_barcodes(known.objective, known.minima[:1], 0, settings)
    apart = torch.cdist(known.minima, found.minima).amin(1)
    assert len(found.minima) == 4 and float(apart.max()) < 1e-3
    assert sorted(bar.death for bar in found.barcodes[0].finite) == pytest.approx(
        [13.3119, 67.7192, 104.0152], abs=1e-3
    )


def test_a_ring_has_one_long_loop():
    """Triangles of minima on a ring: the loop is born at the passes and dies at the centre."""
    # A line between opposite minima leads over the centre, and would fill the loop with nothing.
    known = turned(ring_valley())
    found = landscape_barcodes(known.objective, known.minima, 1, TRIANGLES)
    first, *rest = sorted(found.barcodes[1].bars, key=lambda bar: -bar.length)
    height = min(known.passes.values())
    assert first.birth == pytest.approx(height, abs=5e-3)
    assert first.death == pytest.approx(1, abs=1e-3)
    # A path over two passes and the two paths beside it are one curve with different nodes on the
    # lattice: what is left is the sagitta of a segment.
    assert all(bar.length < 1e-4 for bar in rest)


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
    found = landscape_barcodes(known.objective, known.minima, 2, SOLIDS)
    long_ = [bar for bar in found.barcodes[2].bars if bar.length > 0.2]
    assert len(long_) == 1
    assert long_[0].death == pytest.approx(1, abs=0.02)


def test_index_zero_is_that_of_the_paths():
    """The plain form reports the elder barcode of its own paths, and no index it was not asked for."""
    known = muller_brown()
    settings = LandscapeSettings(PathSettings(start="line", epochs=300))
    found = landscape_barcodes(known.objective, known.minima, 0, settings)
    assert set(found.barcodes) == {0} and found.simplices == {}
    assert set(found.heights) == set(itertools.combinations(range(3), 2))
    again = barcode(found.losses, found.heights)
    assert bottleneck(found.barcodes[0], again) == 0


def ring_round_a_cone(points):
    """A ring valley of three wells round a hill with the tip of a cone at the origin."""
    radius = points.square().sum(1).sqrt()
    angle = torch.atan2(points[:, 1], points[:, 0])
    waves = 0.15 * torch.cos(3 * angle + 0.4) + 0.05 * torch.cos(angle)
    return 4 * (radius - 1.5) ** 2 + waves + 0.4 * torch.exp(-(radius**2))


@pytest.mark.parametrize(("copies", "decimals"), [(2, 12), (1, 2), (2, 2)])
def test_minima_given_twice_or_roughly_change_nothing(copies, decimals):
    """Repeats, and points beside the minima: finite scores, and the loop dies at the disc over the cone.

    The tip is at 9.4 plus what the waves add there, depending on the angle: 9.588 on a fine grid.
    """
    objective = from_function(ring_round_a_cone, 2)
    near = [[0.8889, 1.2271], [-1.5027, 0.1943], [0.5274, -1.4205]]
    minima = [polish_minimum(objective, torch.tensor(p).double()).point for p in near]
    given = torch.stack(minima * copies).round(decimals=decimals)
    settings = LandscapeSettings(subdivide=True, walkers=0)
    found = landscape_barcodes(objective, given, 1, settings)
    assert len(found.minima) == 3 and len(found.barcodes[0].finite) == 2
    (loop,) = found.barcodes[1].bars
    assert loop.birth == pytest.approx(0.24077, abs=1e-4)
    assert loop.death == pytest.approx(9.588, abs=0.01)


def test_one_minimum_given_twice_is_one():
    """Two copies of one point say nothing of how far to look, and the message says so."""
    known = muller_brown()
    with pytest.raises(ValueError, match="are one point"):
        landscape_barcodes(known.objective, known.minima[[0, 0]], 1, PASSES)


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
