"""A function whose graph is cut has no gradient, and says so instead of passing for stationary."""

import pytest
import torch

from topo_core.objectives.protocol import Step, from_function


@pytest.mark.parametrize(
    "function",
    [
        lambda p: p.detach().square().sum(1),
        lambda p: torch.tensor([float(row.square().sum()) for row in p]),
    ],
)
def test_a_cut_graph_is_an_error(function):
    """Part B, 12: detach() and item() give zero gradients, and every point would be a minimum."""
    objective = from_function(function, 2)
    rows = torch.ones(3, 2)
    for call in (
        lambda: objective.gradients(rows, Step(0, 0, 0)),
        lambda: objective.full_gradients(rows),
        lambda: objective.hessian_vector_products(rows, rows),
    ):
        with pytest.raises(ValueError, match=r"remove any detach\(\)"):
            call()
    assert objective.losses(rows).shape == (3,)
