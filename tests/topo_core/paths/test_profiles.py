"""The dense maximum of a polygon."""

import math

import pytest
import torch

from topo_core.objectives.protocol import from_function
from topo_core.paths.polyline import line
from topo_core.paths.profiles import loss_profile, losses_on_segments

ENDS = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)


def along(function):
    return from_function(lambda p: function(p[:, 0]))


@pytest.mark.parametrize("centre", [0.013, 0.2, 0.37, 0.49999, 0.86])
@pytest.mark.parametrize("width", [0.3, 0.05])
def test_smooth_peak_between_points(centre, width):
    """A Gaussian peak anywhere between the points is found to the stated tolerance."""
    objective = along(lambda x: torch.exp(-((x - centre) ** 2) / (2 * width**2)))
    profile = loss_profile(objective, line(*ENDS, 9), tolerance=1e-6)
    assert 0 <= 1 - profile.maximum <= 1e-6
    assert profile.bracket <= 1e-6


@pytest.mark.parametrize("centre", [0.013, 0.37, 0.86])
def test_kinked_peak_between_points(centre):
    """A peak with a kink, as networks with ReLU have, is found to the stated tolerance."""
    objective = along(lambda x: -(x - centre).abs() * torch.where(x > centre, 30.0, 1.0))
    profile = loss_profile(objective, line(*ENDS, 9), tolerance=1e-4)
    assert 0 <= -profile.maximum <= 30 * 1e-4


def test_of_two_peaks_the_higher_between_samples():
    """Two almost equal peaks are both followed: the one that looks lower at first wins."""

    def two(x):
        sharp = torch.exp(-((x - 0.3123) ** 2) / (2 * 0.02**2))
        return sharp + 0.98 * torch.exp(-((x - 0.75) ** 2) / (2 * 0.1**2))

    assert loss_profile(along(two), line(*ENDS, 9), tolerance=1e-5).maximum == pytest.approx(
        1.0, abs=1e-4
    )


def test_paper_grid():
    """``paper`` looks at the points and at the four points of section 2.7 between them."""
    profile = loss_profile(along(lambda x: x), line(*ENDS, 3), heights="paper")
    expected = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    torch.testing.assert_close(profile.positions, torch.tensor(expected, dtype=torch.float64))
    assert profile.evaluations == 11
    assert profile.bracket == math.inf  # a spike between them would not be seen


def test_positions_are_fractions_of_the_arc():
    """On a path with a corner, positions are arc lengths and increase."""
    points = torch.tensor([[0.0, 0.0], [3.0, 0.0], [3.0, 1.0]], dtype=torch.float64)
    profile = loss_profile(from_function(lambda p: p[:, 1] * p[:, 0]), points)
    assert (profile.positions.diff() > 0).all()
    assert profile.positions[0] == 0
    assert profile.positions[-1] == 1
    corner = profile.losses[profile.positions == 0.75]
    assert corner.tolist() == [0.0]


def test_first_passage_stops_below_the_start():
    """The climb counts up to the first point lower than the start, as eq. (1) allows."""
    bumps = along(lambda x: torch.sin(4 * torch.pi * x) * (1 + 2 * x) - 0.1 * x)
    profile = loss_profile(bumps, line(*ENDS, 17))
    first = profile.losses[profile.positions < 0.25].max()
    assert profile.first_passage() == float(first)
    assert profile.first_passage() < profile.maximum
    assert profile.first_passage(from_end=True) == profile.losses[-1]


def test_a_dip_before_the_climb_is_reported():
    """An end below which the path goes before its maximum was not a minimum."""
    profile = loss_profile(along(lambda x: (x - 0.1) ** 2), line(*ENDS, 11))
    assert profile.dips == (True, False)


def test_a_dip_of_rounding_is_none():
    """A sample that is lower than the end by less than two evaluations may differ neither ends the first
    passage nor is a dip; a lower one does and is."""
    for depth, counts in [(1e-15, False), (1e-12, True)]:
        objective = along(lambda x, d=depth: 1 - d * (x > 0.05).to(x) + (x - 0.5).clamp_min(0))
        profile = loss_profile(objective, line(*ENDS, 11))
        assert profile.first_passage() == (1.0 if counts else profile.maximum)
        assert profile.dips == (counts, False)


def test_the_ends_count():
    """The height is never below an end, however low the path between them is."""
    profile = loss_profile(along(lambda x: (x - 0.5) ** 2), line(*ENDS, 5))
    assert profile.maximum == 0.25


def test_segments_without_the_shortcut():
    """Losses on segments equal those of the points written out."""
    objective = from_function(lambda p: p.square().sum(1))
    starts, ends = torch.randn(2, 3, 4, dtype=torch.float64)
    alphas = torch.rand(3, 50, dtype=torch.float64)
    profile = losses_on_segments(objective, starts, ends, alphas)
    points = starts[:, None] + alphas[:, :, None] * (ends - starts)[:, None]
    torch.testing.assert_close(profile, points.square().sum(2))


def test_a_bracket_of_rounding_errors_ends_the_bisection():
    """A barrier of 10⁻⁶ on a loss of 10⁴ has samples equal to rounding; no segment is left to bisect."""
    for height in (1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11):
        for centre in (0.3, 0.41, 0.5):
            objective = along(lambda x, h=height, c=centre: 1e4 - h * (x - c) ** 2)
            profile = loss_profile(objective, line(*ENDS, 19))
            assert profile.maximum == pytest.approx(1e4, abs=1e-10)
