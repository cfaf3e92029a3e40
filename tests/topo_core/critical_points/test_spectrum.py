"""The index of a Hessian whose lowest eigenvector is known beforehand, as after a search for a saddle."""

import pytest
import torch

from topo_core.critical_points.counting import CountedObjective
from topo_core.critical_points.spectrum import SpectrumSettings, lowest_spectrum
from topo_core.objectives.protocol import from_function

POINT = torch.zeros(120, dtype=torch.float64)
LANCZOS = SpectrumSettings(whole=0)


def quadratic(lowest):
    """½ Σ λ x² with these lowest eigenvalues and others from 1 to 10."""
    values = torch.cat([torch.tensor(lowest), torch.linspace(1, 10, 120 - len(lowest))]).double()
    return from_function(lambda points: 0.5 * (values * points.square()).sum(1))


def near(axis, error=0.02):
    """A vector that differs from an axis a little in all directions."""
    vector = error * torch.randn(120, generator=torch.Generator().manual_seed(0)).double()
    return vector.index_add(0, torch.tensor([axis]), torch.ones(1).double())


def test_a_known_direction_saves_products_and_proves_the_same_index():
    """An approximate eigenvector of negative curvature replaces one Lanczos iteration."""
    without, given = (
        CountedObjective(quadratic([-5.0, 0.5])),
        CountedObjective(quadratic([-5.0, 0.5])),
    )
    plain = lowest_spectrum(without, POINT, LANCZOS)
    quick = lowest_spectrum(given, POINT, LANCZOS, near=near(0, 0.002))
    assert plain.settled and quick.settled
    assert plain.negative == quick.negative == 1
    assert given.products < without.products
    assert float(quick.values[0]) == pytest.approx(-5.0, abs=float(quick.residuals[0]))


@pytest.mark.parametrize(("lowest", "index"), [([-5.0, -4.0, 0.5], 2), ([0.5, 0.7, 0.9], 0)])
@pytest.mark.parametrize("axis", [0, 1, 60])
def test_a_direction_never_changes_the_index(lowest, index, axis):
    """Neither one of two negative directions, nor a positive one, whose curvature proves nothing."""
    spectrum = lowest_spectrum(
        CountedObjective(quadratic(lowest)), POINT, LANCZOS, near=near(axis, 0.002)
    )
    assert (spectrum.negative, spectrum.settled) == (index, True)
