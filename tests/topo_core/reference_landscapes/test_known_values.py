"""Every value that a reference landscape lists, against the loss itself."""

import itertools
import math

import numpy as np
import pytest
import torch

from topo_core.critical_points.classification import classify_point
from topo_core.critical_points.minima import polish_minimum
from topo_core.critical_points.verdicts import Verdict
from topo_core.reference_landscapes.registry import LANDSCAPES
from topo_core.reference_landscapes.schwefel import schwefel
from topo_core.reference_landscapes.teacher_student import (
    SECOND_SPURIOUS,
    SPURIOUS,
    teacher_student,
)


@pytest.fixture(scope="module")
def landscapes():
    """Each landscape, built once."""
    return {name: build() for name, build in LANDSCAPES.items()}


@pytest.mark.parametrize("name", sorted(LANDSCAPES))
def test_every_listed_minimum_is_one(landscapes, name):
    """Each minimum is stationary without negative curvature, and has the listed loss; so do the saddles.

    Only the flat one is flat.
    """
    known = landscapes[name]
    torch.testing.assert_close(known.objective.losses(known.minima), known.losses)
    flat = name == "flat_minimum_network"
    allowed = {Verdict.MINIMUM, Verdict.FLAT} if flat else {Verdict.MINIMUM}
    for point in known.minima[:12]:
        assert classify_point(known.objective, point).verdict in allowed
    for saddle in () if known.saddles is None else known.saddles:
        found = classify_point(known.objective, saddle)
        assert (found.verdict, found.index, found.index_is_exact) == (Verdict.SADDLE, 1, True)


@pytest.mark.parametrize("name", ["tanh_regression", "xor", "iris"])
def test_saddles_lead_to_the_listed_ends(landscapes, name):
    """Down on both sides of each saddle lie minima of the losses that the file says."""
    known = landscapes[name]
    for saddle, ends in list(zip(known.saddles, known.saddle_ends, strict=True))[:4]:
        direction = classify_point(known.objective, saddle).direction
        step = 1e-3 * max(1.0, float(saddle.norm())) * direction
        below = sorted(
            polish_minimum(known.objective, saddle + sign * step).loss for sign in (1, -1)
        )
        assert below == pytest.approx(sorted(known.objective.losses(ends).tolist()), abs=1e-9)


@pytest.mark.parametrize("name", ["tanh_regression", "xor", "iris"])
def test_barcodes_begin_and_end_at_listed_points(landscapes, name):
    """Births are losses of minima, deaths are losses of saddles."""
    known = landscapes[name]
    births, deaths = zip(*known.barcode, strict=True)
    assert births == pytest.approx(known.losses.tolist(), abs=1e-12)
    saddles = known.objective.losses(known.saddles).numpy()
    for death in deaths:
        assert math.isinf(death) or np.abs(saddles - death).min() < 1e-12


@pytest.mark.parametrize("name", ["tanh_regression", "xor", "iris"])
def test_random_starts_end_at_listed_minima(landscapes, name):
    """A polish from any drawn start ends at a minimum, and none is missing from the list."""
    known = landscapes[name]
    draw = torch.Generator().manual_seed(5)
    for _ in range(4):
        start = torch.randn(known.minima.shape[1], generator=draw, dtype=torch.float64)
        found = polish_minimum(known.objective, start)
        assert found.verdict is Verdict.MINIMUM
        assert float((known.losses - found.loss).abs().min()) < 1e-9


@pytest.mark.parametrize("k", sorted(SPURIOUS))
def test_spurious_minima_of_teacher_and_student(k):
    """The losses of Safran & Shamir's spurious minima, to all published digits."""
    known = teacher_student(k)
    expected = [0.0, SPURIOUS[k], *([SECOND_SPURIOUS] if k == 10 else [])]
    assert known.losses.tolist() == pytest.approx(expected, abs=5e-9)


def test_the_flat_minimum_of_yun_sra_and_jadbabaie(landscapes):
    """Its loss is 1/3; no point of a small sphere is lower; and its outgoing weights lead off it level."""
    known = landscapes["flat_minimum_network"]
    lowest, flat = known.losses.tolist()
    assert lowest < 1e-12 and flat == pytest.approx(1 / 3, abs=1e-14)
    found = classify_point(known.objective, known.minima[1])
    assert found.verdict is Verdict.FLAT and found.zero_modes >= 4
    away = torch.randn(2000, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    around = known.minima[1] + 1e-2 * away / away.norm(dim=1, keepdim=True)
    assert float(known.objective.losses(around).min()) >= 1 / 3 - 1e-15
    # Along the flat set an outgoing weight goes through zero; there the point is a saddle.
    beyond = known.minima[1].clone()
    shift = torch.tanh(beyond[4]) * (beyond[6] + 1)
    beyond[6], beyond[8] = -1.0, beyond[8] + shift
    assert float(known.objective.losses(beyond[None])) == pytest.approx(1 / 3, abs=1e-14)
    assert classify_point(known.objective, beyond).verdict is Verdict.SADDLE


def test_camel_and_lennard_jones_have_the_published_values(landscapes):
    """Losses of their minima; the camel's pass between its two lowest kinds."""
    camel = landscapes["six_hump_camel"]
    expected = [-1.0316285, -1.0316285, -0.2154638, -0.2154638, 2.1042503, 2.1042503]
    assert camel.losses.tolist() == pytest.approx(expected, abs=5e-8)
    saddle = torch.tensor([1.109205, -0.768268], dtype=torch.float64)
    x = saddle.clone()
    for _ in range(20):  # Newton
        _, slope = camel.objective.full_gradients(x[None])
        hessian = camel.objective.hessian_vector_products(x.expand(2, 2), torch.eye(2).double())
        x = x - torch.linalg.solve(hessian, slope[0])
    assert float(camel.objective.losses(x[None])) == pytest.approx(camel.passes[0, 2], abs=5e-8)
    atoms = landscapes["lennard_jones_7"]
    births = [birth for birth, _ in atoms.barcode]
    assert atoms.losses.tolist() == pytest.approx(births, abs=5e-6)


def test_passes_of_schwefel_are_minimax_heights():
    """A second engine: the lowest path on a grid of the square never goes below a listed pass."""
    known = schwefel()
    assert float(known.losses[0]) == pytest.approx(-837.9657745, abs=1e-6)
    along = torch.linspace(-430, 430, 1721, dtype=torch.float64)
    line = -along * along.abs().sqrt().sin()
    for i, j in itertools.islice(itertools.combinations(range(len(known.minima)), 2), 200):
        if abs(float(known.minima[i, 1] - known.minima[j, 1])) < 1e-9:
            low, high = sorted((float(known.minima[i, 0]), float(known.minima[j, 0])))
            between = line[(along >= low) & (along <= high)].max()
            level = -float(known.minima[i, 1]) * math.sin(math.sqrt(abs(known.minima[i, 1])))
            assert known.passes[i, j] <= float(between) + level + 0.05
