"""Hessian–vector products and exact gradients against closed forms."""

import pytest
import torch

from topo_core.objectives.curvature import (
    central_difference_products,
    full_gradients,
    hessian_vector_products,
)
from topo_core.objectives.protocol import from_function
from topo_core.reference_landscapes.surfaces import embedded, gaussians, muller_brown


def quartic(points):
    """x⁴ + x² y³: Hessian [[12 x² + 2 y³, 6 x y²], [6 x y², 6 x² y]]."""
    x, y = points[:, 0], points[:, 1]
    return x**4 + x**2 * y**3


def quartic_hessian(point):
    x, y = point.tolist()
    return torch.tensor(
        [[12 * x * x + 2 * y**3, 6 * x * y * y], [6 * x * y * y, 6 * x * x * y]],
        dtype=torch.float64,
    )


@pytest.mark.parametrize(
    ("products", "within"), [(hessian_vector_products, 1e-14), (central_difference_products, 1e-8)]
)
def test_products_are_those_of_the_hessian(products, within):
    """Each row has its own point and vector; differences agree to their order."""
    points = torch.randn(7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    vectors = torch.randn(7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    vectors[3] = 0
    found = products(from_function(quartic), points, vectors)
    expected = torch.stack([quartic_hessian(p) @ v for p, v in zip(points, vectors, strict=True)])
    scale = float(expected.abs().max())
    assert float((found - expected).abs().max()) <= within * scale


def test_a_function_without_second_derivatives_is_differenced():
    """PyTorch cannot differentiate cdist twice: the product is then a central difference."""
    centre = torch.tensor([[0.3, -0.2]], dtype=torch.float64)
    objective = from_function(
        lambda p: torch.cdist(p, centre, compute_mode="donot_use_mm_for_euclid_dist")[:, 0] ** 2
    )
    points, vectors = torch.randn(2, 4, 2, dtype=torch.float64)
    found = hessian_vector_products(objective, points, vectors)
    torch.testing.assert_close(found, 2 * vectors, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    "function", [lambda p: p.sum(1), lambda p: p.abs().sum(1), lambda p: p[:, 0].square()]
)
def test_what_has_no_curvature_gives_zero(function):
    """Linear and piecewise linear functions, and parameters that the loss does not use."""
    points, vectors = torch.ones(3, 2, dtype=torch.float64), torch.ones(3, 2, dtype=torch.float64)
    assert hessian_vector_products(from_function(function), points, vectors)[:, 1].eq(0).all()


def test_an_embedding_has_the_products_of_its_parts():
    """Exact through the rotation: the embedded objective's product is that of its own autograd."""
    outer = embedded(muller_brown().objective, 5, seed=1, stiffness=3.0)
    points, vectors = 0.3 * torch.randn(2, 4, 5, dtype=torch.float64)
    exact = hessian_vector_products(outer, points, vectors)
    differences = central_difference_products(outer, points, vectors)
    torch.testing.assert_close(exact, differences, rtol=1e-5, atol=1e-5)
    losses, gradients = full_gradients(outer, points)
    assert losses.dtype == torch.float64 and gradients.shape == points.shape


def test_landscapes_of_wells_can_be_differentiated_twice():
    """The sums of Gaussians have exact products."""
    objective = gaussians(0).objective
    point, vector = torch.randn(2, 1, 2, dtype=torch.float64)
    exact = objective.hessian_vector_products(point, vector)
    differences = central_difference_products(objective, point, vector)
    torch.testing.assert_close(exact, differences, rtol=1e-6, atol=1e-8)


def test_minibatches_alone_are_refused():
    """Without full gradients there is no exact one, and the message says what to give."""

    class Noisy:
        dimension, batches = 2, 4

        def gradients(self, points, step):
            return points.sum(1), points

        def losses(self, points):
            return points.sum(1)

    with pytest.raises(ValueError, match="4 minibatches and no full_gradients"):
        full_gradients(Noisy(), torch.zeros(1, 2))
