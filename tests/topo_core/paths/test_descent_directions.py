"""Descent directions against formulas written out for one point."""

import pytest
import torch

from topo_core.paths.chords import Chords
from topo_core.paths.descent_directions import descent_
from topo_core.paths.tangents.improved import upwind_weights
from topo_core.paths.tangents.registry import TANGENTS
from topo_core.random_streams import generator


def example(dimension=12, moving=5):
    draw = generator("forces")
    points = torch.randn(moving + 2, dimension, generator=draw, dtype=torch.float64)
    gradients = torch.randn(moving, dimension, generator=draw, dtype=torch.float64)
    losses = torch.randn(moving + 2, generator=draw, dtype=torch.float64)
    return points, gradients, losses


def descent(force, points, gradients, losses, **options):
    actual = gradients.clone()
    descent_(TANGENTS[force], Chords.of(points), actual, losses.unfold(0, 3, 1), **options)
    return actual


def henkelman_jonsson(points, losses, i):
    """Unit tangent at point i, eqs. (8)-(11) of Henkelman & Jónsson (2000)."""
    front, back = points[i + 1] - points[i], points[i] - points[i - 1]
    left, here, right = losses[i - 1], losses[i], losses[i + 1]
    if right > here > left:
        tangent = front
    elif right < here < left:
        tangent = back
    else:
        large = max(abs(right - here), abs(left - here))
        small = min(abs(right - here), abs(left - here))
        tangent = front * large + back * small if right > left else front * small + back * large
    return tangent / tangent.norm()


def test_improved_is_a_projection_off_the_upwind_tangent():
    """``improved`` is g - (g·t) t with the published tangent, and so n·t = 0."""
    points, gradients, losses = example()
    actual = descent("improved", points, gradients, losses)
    for k, normal in enumerate(actual):
        t = henkelman_jonsson(points, losses, k + 1)
        expected = gradients[k] - gradients[k].dot(t) * t
        torch.testing.assert_close(normal, expected, rtol=1e-12, atol=1e-12)
        assert abs(float(normal.dot(t))) < 1e-12


def test_string_is_a_projection_off_the_central_chord():
    """``string`` has no component along the chord between the two neighbours."""
    points, gradients, losses = example()
    actual = descent("string", points, gradients, losses)
    chords = points[2:] - points[:-2]
    assert torch.linalg.vecdot(actual, chords).abs().max() < 1e-12
    assert (actual - gradients).norm() > 0.1


def test_spring_adds_the_difference_of_lengths():
    """``spring`` is ``improved`` with k (|f| - |b|) along the tangent, towards equal lengths."""
    points, gradients, losses = example()
    actual = descent("spring", points, gradients, losses, spring=0.7)
    plain = descent("improved", points, gradients, losses)
    for k in range(len(actual)):
        t = henkelman_jonsson(points, losses, k + 1)
        front = (points[k + 2] - points[k + 1]).norm()
        back = (points[k + 1] - points[k]).norm()
        expected = plain[k] - 0.7 * (front - back) * t
        torch.testing.assert_close(actual[k], expected, rtol=1e-12, atol=1e-12)


def test_paper_keeps_half_of_the_tangential_part_at_a_kink():
    """At a right angle Algorithm 2 takes out half of what lies along either chord."""
    points = torch.tensor([[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    gradients = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    actual = descent("paper", points, gradients, torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(actual, 0.5 * gradients)


def test_climbing_reverses_the_tangential_part():
    """A climbing point descends across the path and ascends along it."""
    points, gradients, losses = example()
    climbing = torch.tensor([False, True, False, False, False])
    actual = descent("improved", points, gradients, losses, climbing=climbing)
    plain = descent("improved", points, gradients, losses)
    t = henkelman_jonsson(points, losses, 2)
    expected = gradients[1] - 2 * gradients[1].dot(t) * t
    torch.testing.assert_close(actual[1], expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(actual[~climbing], plain[~climbing])


def test_equal_losses_use_both_chords():
    """Where a point and its neighbours have one loss the tangent is the central chord."""
    back, front = upwind_weights(torch.ones(1, 3))
    assert (float(back), float(front)) == (1.0, 1.0)


@pytest.mark.parametrize("force", TANGENTS)
def test_zero_chords_divide_nothing(force):
    """Coincident points leave the gradient as it is, and finite."""
    points = torch.zeros(3, 4, dtype=torch.float64)
    gradients = torch.ones(1, 4, dtype=torch.float64)
    actual = descent(force, points, gradients, torch.zeros(3, dtype=torch.float64))
    assert torch.equal(actual, gradients)


@pytest.mark.parametrize("force", TANGENTS)
def test_a_subset_is_computed_as_part_of_the_whole(force):
    """Rows of a subset of the points equal those rows of all points."""
    points, gradients, losses = example()
    index = torch.tensor([1, 4])
    actual = gradients[index - 1].clone()
    around = losses.unfold(0, 3, 1)[index - 1]
    descent_(TANGENTS[force], Chords.of(points, index), actual, around)
    torch.testing.assert_close(
        actual, descent(force, points, gradients, losses)[index - 1], rtol=1e-13, atol=1e-13
    )


def test_length_of_what_was_taken_out():
    """The returned lengths are those of the parts of the gradients that were taken out."""
    points, gradients, losses = example()
    actual = gradients.clone()
    taken = descent_(TANGENTS["improved"], Chords.of(points), actual, losses.unfold(0, 3, 1))
    torch.testing.assert_close(taken, (gradients - actual).norm(dim=1))
