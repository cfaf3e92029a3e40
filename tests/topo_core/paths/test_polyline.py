"""Polygons."""

import pytest
import torch

from topo_core.paths.polyline import (
    arc_positions,
    at_positions,
    line,
    merge_coincident,
    resample,
    segment_lengths,
    through,
)
from topo_core.random_streams import generator

CORNER = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 3.0]], dtype=torch.float64)


def test_resampled_points_lie_on_the_polygon_at_equal_arc():
    """Points go round a corner at equal distance along the path."""
    actual = resample(CORNER, 5)
    expected = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
    torch.testing.assert_close(actual, expected.double())


def test_interpolation_at_the_points_is_exact():
    """At the positions of the points the rows come back."""
    rows = torch.randn(6, 3, dtype=torch.float64)
    positions = torch.linspace(0, 1, 6, dtype=torch.float64)
    torch.testing.assert_close(at_positions(rows, positions, positions), rows)


def test_paths_are_joined_end_to_start():
    """``through`` follows the paths in order, and meets their common point."""
    actual = through([CORNER[:2], CORNER[1:]], 9)
    assert torch.equal(actual[[0, -1]], CORNER[[0, 2]])
    assert (actual - CORNER[1]).norm(dim=1).min() < 1e-12


def test_paths_that_do_not_meet_are_refused():
    """``through`` names the paths between which there is a gap."""
    with pytest.raises(ValueError, match="path 1 does not start where path 0 ends"):
        through([CORNER[:2], CORNER[1:].flip(0)], 9)


def test_repeats_are_dropped_and_ends_stay():
    """Repeated neighbours are merged, also at both ends."""
    points = CORNER[[0, 0, 1, 1, 2, 2]]
    actual, dropped = merge_coincident(points)
    assert torch.equal(actual, CORNER)
    assert dropped == 3


def test_a_path_without_length_has_even_positions():
    """Where all points are one, positions are even and not 0/0."""
    actual = arc_positions(torch.zeros(3, 2))
    assert actual.tolist() == [0.0, 0.5, 1.0]


def test_line_has_exact_ends():
    """The ends of a line are the given vectors to the bit, in float32 too."""
    start, end = torch.randn(2, 5, generator=generator("line"))
    actual = line(start, end, 7)
    assert torch.equal(actual[0], start)
    assert torch.equal(actual[-1], end)
    torch.testing.assert_close(segment_lengths(actual), segment_lengths(actual)[:1].expand(6))


def test_draws_depend_on_their_name_alone():
    """Equal names give equal numbers; another name gives other numbers."""
    first, again = (torch.rand(4, generator=generator(1, "a", 2)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, torch.rand(4, generator=generator(1, "a", 3)))
