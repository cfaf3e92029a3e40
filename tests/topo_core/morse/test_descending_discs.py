"""Critical points of index 2, and the loops that the discs below them fill, on closed forms."""

import pytest
import torch

from topo_core.morse import descending_discs as descending
from topo_core.morse.descending_discs import descending_discs
from topo_core.morse.index_two_points import find_index_two_points
from topo_core.morse.passes import Pass
from topo_core.objectives.protocol import from_function


def bowl_rim(x):
    """A ring of four wells on the rim of a paraboloid in space, r = 1 and z = 1/2.

    The origin is its critical point of index 2, of loss 1: curvatures -4, -4 and 4.
    """
    square = x[:, 0] ** 2 + x[:, 1] ** 2
    wave = torch.complex(x[:, 0], x[:, 1]) ** 4
    return (square - 1) ** 2 + 0.1 * (square**2 - wave.real) + 2 * (x[:, 2] - 0.5 * square) ** 2


def tilted_ring(x):
    """A ring that leans: one minimum, one pass from it to itself, and the hilltop inside."""
    return (x.square().sum(1) - 1) ** 2 - 0.1 * x[:, 0]


def rim_valley(start):
    """[37, 3], the floor of the valley from the well at angle ``start`` to the next one."""
    angles = start + torch.linspace(0, torch.pi / 2, 37, dtype=torch.float64)
    square = 1 / (1 + 0.1 * (1 - torch.cos(4 * angles)))
    around = [square.sqrt() * angles.cos(), square.sqrt() * angles.sin(), 0.5 * square]
    return torch.stack(around, dim=1)


def ring_valley_floor():
    """[73, 2], once round the floor of the leaning ring, from its minimum to itself."""
    angles = torch.linspace(0, 2 * torch.pi, 73, dtype=torch.float64)
    radius = torch.ones_like(angles)
    for _ in range(50):  # where the slope along the ray vanishes
        slope = 4 * radius * (radius**2 - 1) - 0.1 * angles.cos()
        radius = radius - slope / (12 * radius**2 - 4)
    return radius[:, None] * torch.stack([angles.cos(), angles.sin()], dim=1)


def stages(function, minima, passes):
    """The objective, its minima, passes, and the critical points of index 2 that walkers find."""
    objective = from_function(function, minima.shape[1])
    tops = find_index_two_points(
        objective, minima, passes, given=len(minima), size=1.5, walkers=16, seed=0
    )
    return objective, minima, passes, tops


def one_pass(function, ends, path):
    """The pass in the middle of ``path``."""
    top = len(path) // 2
    return Pass(ends, path, top, float(function(path[top][None])), 0.0)


@pytest.fixture(scope="module")
def rim():
    """The ring in space: well k at angle k π/2, and pass k after it."""
    minima = torch.stack([rim_valley(k * torch.pi / 2)[0] for k in range(4)])
    ways = [rim_valley(k * torch.pi / 2) for k in range(3)] + [rim_valley(-torch.pi / 2).flip(0)]
    ends = [(0, 1), (1, 2), (2, 3), (0, 3)]
    passes = [one_pass(bowl_rim, *one) for one in zip(ends, ways, strict=True)]
    return stages(bowl_rim, minima, passes)


@pytest.fixture(scope="module")
def ring():
    """The leaning ring in the plane."""
    floor = ring_valley_floor()
    return stages(tilted_ring, floor[:1], [one_pass(tilted_ring, (0, 0), floor)])


def test_the_saddle_of_index_two_is_found(rim):
    """In space it is no maximum: walkers climb in a plane and go down across it."""
    *_, tops = rim
    (top,) = tops
    assert top.loss == pytest.approx(1, abs=1e-9)
    assert float(top.point.norm()) < 1e-5
    assert top.curvatures == pytest.approx((-4, -4), abs=1e-3)


def test_its_disc_is_bounded_by_the_four_passes_round_it(rim):
    """And is nowhere higher than it, up to a bracket far below its depth."""
    objective, minima, passes, tops = rim
    ((disc,), diverging) = descending_discs(objective, tops, minima, passes, size=1.5)
    assert disc.boundary == frozenset(range(4)) and diverging == []
    assert disc.value == tops[0].loss and 0 <= disc.bracket <= 1e-5


def test_a_pass_from_a_minimum_to_itself_bounds_a_disc(ring):
    """All descents end in one minimum, on two sides of the hill that the pass is behind."""
    objective, minima, passes, tops = ring
    ((disc,), _) = descending_discs(objective, tops, minima, passes, size=1.5)
    assert disc.boundary == frozenset({0})


def test_a_pass_that_is_missing_is_not_made_up_and_shown_where_to_look_for(ring, monkeypatch):
    """Descents part close to it, and no disc is claimed."""
    monkeypatch.setattr(descending, "_ROUNDS", 2)
    objective, minima, (missing,), tops = ring
    discs, diverging = descending_discs(objective, tops, minima, [], size=1.5)
    assert discs == [] and len(tops) == 1
    assert any(float((one.point - missing.saddle).norm()) < 0.4 for one in diverging)


def test_a_disc_with_an_unknown_minimum_is_not_claimed(rim, monkeypatch):
    """Descents that end in no known minimum have no end that a loop could pass through."""
    monkeypatch.setattr(descending, "_ROUNDS", 2)
    objective, minima, passes, tops = rim
    discs, _ = descending_discs(objective, tops, minima[:3], passes, size=1.5)
    assert discs == []
