"""The damped step of eigenvector following."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from topo_core.critical_points.following import damped_weights


@given(st.integers(0, 10**6), st.sampled_from([1e-12, 1.0, 1e12]), st.floats(0, 12))
def test_a_damped_step_is_as_long_as_the_radius_or_undamped(
    seed: int, scale: float, spread: float
) -> None:
    """For curvatures of any spread and gradients of any size, a step is the Newton step if that is within
    the radius; otherwise its length is the radius, to rounding, with one shift for all components.
    """
    draw = torch.Generator().manual_seed(seed)
    parts = scale * torch.randn(5, 9, generator=draw, dtype=torch.float64)
    size = 10 ** (-spread * torch.rand(5, 9, generator=draw, dtype=torch.float64))
    radius = 10 ** (2 * torch.randn(5, generator=draw, dtype=torch.float64))
    weights = damped_weights(parts, size, radius)
    shift = 1 / weights - size
    length, newton = (parts * weights).norm(dim=1), (parts / size).norm(dim=1)
    fits = newton <= radius
    assert torch.allclose(length[fits], newton[fits], rtol=1e-12)
    assert torch.allclose(length[~fits], radius[~fits], rtol=1e-5)
    allowed = 1e-9 * (1 / weights).amax(1)
    assert bool(((shift.amax(1) - shift.amin(1)) <= allowed).all())
