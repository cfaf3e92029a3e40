"""From peaks to saddles of index 1 and to the minima that they join, on surfaces with known saddles."""

import math

import pytest
import torch
from torch import nn

from topo_core.critical_points.eigenvector_following import follow
from topo_core.critical_points.following import FollowLimits
from topo_core.critical_points.saddles import SaddleSettings, descend_both_sides, refine_saddle
from topo_core.critical_points.scaled_loss import ScaledLoss
from topo_core.critical_points.verdicts import Verdict
from topo_core.objectives.losses.squared_error import SquaredError
from topo_core.objectives.network_loss import ModuleObjective
from topo_core.objectives.protocol import from_function
from topo_core.reference_landscapes.surfaces import embedded, himmelblau, muller_brown
from topo_core.symmetries.continuous import network_tangents


def camel(points):
    """The six-hump camel function (Dixon & Szegö 1978)."""
    x, y = points[:, 0], points[:, 1]
    return (4 - 2.1 * x**2 + x**4 / 3) * x**2 + x * y + (4 * y**2 - 4) * y**2


# Müller & Brown (1979), and the roots of the gradient of Himmelblau's polynomial: a point near the saddle,
# the minima that it joins, its position, and its loss.
KNOWN = [
    (muller_brown, (-0.9, 0.7), (0, 2), (-0.822001, 0.624313), -40.66484),
    (muller_brown, (0.1, 0.35), (1, 2), (0.212487, 0.292988), -72.24894),
    (himmelblau, (3.2, 0.3), (0, 1), (3.385154, 0.073852), 13.31193),
    (himmelblau, (0.3, 2.7), (0, 2), (0.086678, 2.884255), 67.71915),
    (himmelblau, (-3.0, -0.4), (2, 3), (-3.073026, -0.081353), 104.01517),
    (himmelblau, (0.2, -2.2), (1, 3), (-0.127961, -1.953715), 178.33724),
]


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(("landscape", "near", "pair", "position", "height"), KNOWN)
def test_published_saddles_and_the_minima_that_they_join(landscape, near, pair, position, height):
    """From a point beside it to the published saddle, and down to the two minima on its sides.

    The two descents are a path whose height is the loss of the saddle.
    """
    known = landscape()
    start, end = known.minima[list(pair)]
    saddle = refine_saddle(known.objective, tensor(near), 0.1 * (end - start))
    assert saddle.is_pass
    assert saddle.loss == pytest.approx(height, rel=1e-6)
    assert torch.allclose(saddle.point, tensor(position), atol=2e-6)
    assert saddle.critical.gradient_norm < 1e-9
    sides = descend_both_sides(known.objective, saddle)
    ends = [side.polyline[-1] for side in sides]
    if (ends[0] - start).norm() > (ends[1] - start).norm():
        ends.reverse()
    assert torch.allclose(torch.stack(ends), torch.stack([start, end]), atol=1e-6)
    for side in sides:
        assert side.converged
        points = torch.cat(
            [
                torch.lerp(a, b, tensor([[0.1 * k] for k in range(11)]))
                for a, b in zip(side.polyline, side.polyline[1:], strict=False)
            ]
        )
        losses = known.objective.losses(points)
        assert float(losses.max()) <= saddle.loss + 1e-12 * abs(saddle.loss)


def test_the_pass_of_the_six_hump_camel():
    """Between its lowest and its middle minimum the pass is at 0.5437186."""
    saddle = refine_saddle(from_function(camel), tensor([1.0, -0.8]), tensor([0.2, 0.0]))
    assert saddle.is_pass and saddle.loss == pytest.approx(0.5437186, abs=1e-7)
    losses = sorted(side.loss for side in descend_both_sides(from_function(camel), saddle))
    assert losses == pytest.approx([-1.0316285, -0.2154638], abs=1e-7)


@pytest.mark.parametrize("dense", [256, 10])
def test_a_saddle_in_two_hundred_dimensions(dense):
    """Hidden by a rotation, the saddle has the same loss, index and minima, by either representation."""
    known = himmelblau()
    hidden = embedded(known.objective, 200, seed=3, stiffness=5.0)
    near, *ends = hidden.lift(torch.cat([tensor([[3.2, 0.3]]), known.minima[[0, 1]]]))
    draw = torch.Generator().manual_seed(0)
    near = near + 0.01 * torch.randn(200, generator=draw, dtype=torch.float64)
    settings = SaddleSettings(dense=dense)
    saddle = refine_saddle(hidden, near, 0.1 * (ends[1] - ends[0]), settings)
    assert saddle.is_pass and saddle.loss == pytest.approx(13.31193, rel=1e-6)
    sides = descend_both_sides(hidden, saddle, settings)
    gaps = [min(float((side.polyline[-1] - end).norm()) for side in sides) for end in ends]
    assert max(gaps) < 1e-5


@pytest.mark.parametrize("shift", [0.0, 1e3])
@pytest.mark.parametrize("stretch", [1e-3, 1.0, 1e3])
def test_the_search_follows_a_change_of_coordinates(shift, stretch):
    """L → aL + b and rescaled coordinates cost no more steps, and give the same saddle."""
    inner = muller_brown().objective
    scale = tensor([stretch, 1.0])
    outer = from_function(lambda x: 1e-2 * inner.function(x / scale) + shift)
    saddle = refine_saddle(outer, tensor([-0.9, 0.7]) * scale, tensor([0.05, 0.05]) * scale)
    plain = refine_saddle(inner, tensor([-0.9, 0.7]), tensor([0.05, 0.05]))
    assert saddle.is_pass and saddle.loss == pytest.approx(-0.4066484 + shift, abs=1e-7)
    assert abs(saddle.gradients - plain.gradients) <= 4


def quadratic(curvatures):
    values = tensor(curvatures)
    return from_function(lambda x: 0.5 * (values * x.square()).sum(1))


@pytest.mark.parametrize("dense", [256, 5])
def test_an_index_above_one_is_no_pass(dense):
    """At a stationary point of index 3 in sixty dimensions the search says so, by either representation."""
    curvatures = [-1.0, -2.0, -3.0, *[float(k) for k in range(1, 58)]]
    saddle = refine_saddle(
        quadratic(curvatures),
        torch.zeros(60).double(),
        tensor([1.0] + [0.0] * 59),
        SaddleSettings(dense=dense),
    )
    assert saddle.critical.verdict is Verdict.SADDLE and saddle.critical.index == 3
    assert not saddle.is_pass


@pytest.mark.parametrize(
    ("function", "peak", "verdict"),
    [
        # The Hessian of the monkey saddle is zero, and the loss falls in three directions.
        (lambda x, y: x**3 - 3 * x * y**2, (0.0, 0.0), Verdict.SADDLE),
        (lambda x, y: -x.abs() + y**2, (0.0, 0.01), Verdict.KINK),
        # On a plateau no single point is the pass.
        (lambda x, y: -(torch.relu(x.abs() - 1) ** 2) + y**2, (0.1, 0.0), Verdict.FLAT),
    ],
)
def test_a_peak_that_is_no_saddle_of_index_one_is_no_pass(function, peak, verdict):
    """A degenerate saddle, a kink and a plateau have verdicts of their own, and are not passes."""
    objective = from_function(lambda p: function(p[:, 0], p[:, 1]))
    saddle = refine_saddle(objective, tensor(peak), tensor([0.3, 0.0]))
    assert saddle.critical.verdict is verdict and not saddle.is_pass


def test_a_search_without_steps_says_that_it_has_not_converged():
    """Where the budget ends before the search, the point is where it is, and is not called stationary."""
    settings = SaddleSettings(steps=0)
    start = tensor([-0.7, 0.6])
    saddle = refine_saddle(muller_brown().objective, start, tensor([0.1, 0.1]), settings)
    assert saddle.distance == 0
    assert saddle.critical.verdict is Verdict.NOT_STATIONARY and not saddle.is_pass


def test_a_loss_that_is_not_finite_is_an_outcome():
    """Where the loss becomes NaN the search ends with a verdict, not with an exception."""
    objective = from_function(lambda x: torch.sqrt(x[:, 0] - 1) - x[:, 1] ** 2)
    saddle = refine_saddle(objective, tensor([0.5, 0.1]), tensor([0.1, 0.0]))
    assert saddle.critical.verdict is Verdict.NOT_FINITE and not saddle.is_pass


@pytest.mark.parametrize("length", [0.0, math.nan])
def test_a_chord_without_length_is_refused(length):
    """The chord is the scale of the search, so one of no length is refused in one sentence."""
    with pytest.raises(ValueError, match="chord"):
        refine_saddle(quadratic((-1.0, 1.0)), tensor([0.0, 0.0]), tensor([length, 0.0]))


def test_a_search_that_only_seemed_to_have_ended_is_no_error():
    """Where the exact Hessian shows that no search has converged, nothing is evaluated at no points."""
    inputs = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    objective = ModuleObjective(
        nn.Linear(1, 1).double(), inputs, inputs, batch_size=5, loss=SquaredError()
    )
    point = torch.tensor([3.0, 2.0], dtype=torch.float64)
    result = follow(
        ScaledLoss(objective, point),
        torch.zeros(1, 2, dtype=torch.float64),
        torch.tensor([[1.0, 0.0]], dtype=torch.float64),
        FollowLimits(longest=1.0, tolerance=1e-6),
        radius=torch.tensor([0.1], dtype=torch.float64),
        hessians=torch.diag(torch.tensor([-1e12, 1e12], dtype=torch.float64))[None],
    )
    assert not bool(result.converged.any())


@pytest.mark.parametrize("dense", [256, 0])
def test_a_search_below_its_floor_stops_at_once(dense):
    """Of a path whose higher end is above the saddle: the search ends as soon as its loss is lower than that,
    with fewer gradients than one that goes on to the saddle, and claims nothing."""
    objective = muller_brown().objective
    peak, along = tensor([0.3, 0.9]), tensor([1.0, -1.0])
    settings = SaddleSettings(dense=dense)
    free = refine_saddle(objective, peak, along, settings)
    assert free.is_pass
    floor = 0.5 * (free.peak_loss + free.loss)
    stopped = refine_saddle(objective, peak, along, settings, floor=floor)
    assert not stopped.is_pass and stopped.gradients < free.gradients


@pytest.mark.parametrize("dense", [256, 1])
def test_symmetries_explain_the_zero_modes_of_a_saddle(dense):
    """A linear network with one hidden unit maps two inputs to two outputs, and diag(2, 1) has rank 2. Its
    stationary points are the two singular pairs: the larger one a minimum, the smaller one a saddle of index
    1 between two signs of the minimum, flat along the rescaling of the unit. Only with this symmetry is the
    index proved."""
    network = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(1, 2, bias=False)).double()
    targets = torch.diag(tensor([2.0, 1.0]))
    inputs = torch.eye(2, dtype=torch.float64)
    objective = ModuleObjective(network, inputs, targets, batch_size=2, loss=SquaredError())
    settings = SaddleSettings(dense=dense)
    start = tensor([0.05, 1.02, -0.03, 1.04]), tensor([0.3, 0.0, 0.3, 0.0])
    unproved = refine_saddle(objective, *start, settings)
    assert unproved.critical.index == 1 and not unproved.is_pass
    symmetries = network_tangents(network, objective)
    saddle = refine_saddle(objective, *start, settings, symmetries=symmetries)
    assert saddle.is_pass and saddle.critical.zero_modes == saddle.critical.symmetry_modes == 1
    assert saddle.loss == pytest.approx(2.0**2 / 4)  # a mean over two examples and two outputs
    for side in descend_both_sides(objective, saddle, settings):
        assert side.converged and side.loss == pytest.approx(1.0**2 / 4)
