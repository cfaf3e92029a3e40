"""Lanczos against closed forms and SciPy's eigsh."""

import math

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.sparse.linalg import eigsh

from topo_core.critical_points.lanczos import lowest_eigenpairs, missed_eigenvalue_bound
from topo_core.random_streams import generator


def random_vector(width, *names):
    return torch.randn(width, generator=generator(*names), dtype=torch.float64)


def turned(values, seed=0):
    """A symmetric matrix with the given eigenvalues, in a random basis."""
    width = len(values)
    rows = torch.randn(width, width, generator=generator("turned", seed), dtype=torch.float64)
    frame = torch.linalg.qr(rows).Q
    return frame @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ frame.T


@pytest.mark.parametrize("basis_size", [8, 64])
def test_lowest_pairs_are_those_of_eigsh(basis_size):
    """On a random sparse matrix of 400 dimensions, with and without restarts."""
    sparse = scipy.sparse.random(400, 400, 0.02, rng=np.random.default_rng(0))
    sparse = sparse + sparse.T
    expected, _ = eigsh(sparse, k=3, which="SA")
    dense = torch.from_numpy(sparse.toarray())
    found = lowest_eigenpairs(
        lambda v: dense @ v,
        random_vector(400, 1),
        3,
        tolerance=1e-10,
        max_products=2000,
        basis_size=basis_size,
    )
    assert found.converged
    assert found.values.numpy() == pytest.approx(np.sort(expected), abs=1e-9)
    images = found.vectors @ dense
    left = (images - found.values[:, None] * found.vectors).norm(dim=1)
    assert bool((left <= found.residuals + 1e-12).all())


@pytest.mark.parametrize("width", [1, 2, 5])
def test_the_whole_space_is_exact(width):
    """With as many products as dimensions all eigenvalues are there, to rounding."""
    matrix = turned(list(range(-1, width - 1)))
    found = lowest_eigenpairs(lambda v: matrix @ v, random_vector(width, 2), width)
    assert found.converged and found.products == width
    assert found.values.tolist() == pytest.approx(list(range(-1, width - 1)), abs=1e-12)


def test_equal_eigenvalues_come_by_exhaustion_and_by_deflation():
    """A Krylov space contains each eigenvalue once: the basis continues outside it, or known vectors are
    deflated."""
    matrix = turned([-1.0, -1.0, -1.0] + [2.0] * 57)
    found = lowest_eigenpairs(lambda v: matrix @ v, random_vector(60, 3), 4)
    assert found.values.tolist() == pytest.approx([-1, -1, -1, 2], abs=1e-10)
    matrix = turned([-1.0, -1.0] + [float(k) for k in range(1, 59)])
    one = lowest_eigenpairs(lambda v: matrix @ v, random_vector(60, 4), tolerance=1e-9)
    other = lowest_eigenpairs(
        lambda v: matrix @ v, random_vector(60, 5), tolerance=1e-9, deflate=one.vectors
    )
    assert one.values[0] == pytest.approx(-1) and other.values[0] == pytest.approx(-1)
    assert float((one.vectors @ other.vectors.T).abs().max()) < 1e-10


@pytest.mark.parametrize("lowest", [-1.0, -0.01])
def test_a_sign_is_not_settled_by_a_small_ritz_value_alone(lowest):
    """The first product of a spectrum in [1, 2] has residual 0.3, its Ritz value is 1.5: too early."""
    matrix = turned([lowest, *np.linspace(1, 2, 199).tolist()])
    found = lowest_eigenpairs(lambda v: matrix @ v, random_vector(200, 6), sign_above=1e-9)
    assert found.converged and found.products < 40
    assert found.values[0] == pytest.approx(lowest, rel=0.02)


def test_a_product_that_is_not_finite_ends_the_search():
    """What was known before is returned, and does not claim to have converged."""
    calls = []

    def product(vector):
        calls.append(1)
        return (
            vector
            * torch.arange(1.0, 31.0, dtype=torch.float64)
            * (math.nan if len(calls) > 5 else 1.0)
        )

    found = lowest_eigenpairs(product, random_vector(30, 8))
    assert not found.converged and found.products == 6 and len(found.values) == 1
    assert bool(found.values.isfinite().all()) and float(found.residuals[0]) > 0
    calls.extend([1] * 5)
    assert len(lowest_eigenpairs(product, random_vector(30, 8)).values) == 0


def test_float32_products_leave_their_rounding_in_the_residual():
    """The residual bound holds in float32 too."""
    matrix = turned([-0.5, *np.linspace(1, 3, 99).tolist()])
    single = matrix.float()
    found = lowest_eigenpairs(lambda v: single @ v, random_vector(100, 9).float())
    assert found.converged and abs(float(found.values[0]) + 0.5) <= float(found.residuals[0])


def test_a_converged_pair_may_hide_a_lower_one():
    """Two eigenvalues at the lower end, of which the upper converges first.

    A small residual alone takes it for the lowest. With a bound on that chance the search goes on.
    """
    matrix = turned([-1e-3, 2e-3, *np.linspace(0.05, 1, 398).tolist()])
    lowest = torch.linalg.eigh(matrix).eigenvectors[:, 0]
    # An unlucky start: nearly nothing of the lowest eigenvector.
    start = random_vector(400, 11)
    start = start - (1 - 1e-3) * (start @ lowest) * lowest
    quick, careful = (
        lowest_eigenpairs(
            lambda v: matrix @ v,
            start,
            sign_above=1e-10,
            basis_size=300,
            miss_probability=miss_probability,
        )
        for miss_probability in (None, 1e-3)
    )
    assert quick.converged and quick.values[0] > 0 and missed_eigenvalue_bound(quick, 400) > 0.5
    assert careful.converged and careful.values[0] == pytest.approx(-1e-3, rel=0.05)


def test_the_chance_of_a_lower_one_falls_with_products():
    """Each look further lowers it; none is left once the whole space is spanned."""
    matrix = turned(np.linspace(0.01, 1, 300).tolist())
    chances = []
    for products in (5, 40, 80, 300):
        pairs = lowest_eigenpairs(
            lambda v: matrix @ v,
            random_vector(300, 12),
            tolerance=0.0,
            max_products=products,
            basis_size=300,
        )
        chances.append(missed_eigenvalue_bound(pairs, 300))
    assert chances == sorted(chances, reverse=True) and chances[0] == 1 and chances[-1] == 0
