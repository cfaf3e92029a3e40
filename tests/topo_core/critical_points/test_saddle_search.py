"""Peaks of paths become saddles: places, losses and indices that are known."""

import math

import pytest
import torch

from topo_core.critical_points.saddle_search import SaddleSettings, find_saddle
from topo_core.objectives.protocol import Step, from_function
from topo_core.paths.optimize import optimize_path
from topo_core.paths.settings import PathSettings
from topo_core.reference_landscapes.surfaces import embedded, himmelblau, muller_brown


def exact(objective):
    return lambda points: objective.gradients(points, Step(0, 0, 0))


def saddle_of(objective, start, end, points=9, saddle_settings=None):
    """The saddle at the peak of a rough path between two minima."""
    settings = PathSettings(points=points, start="line", epochs=60)
    path = optimize_path(objective, start, end, settings)
    losses = objective.losses(path.points)
    top = int(losses[1:-1].argmax()) + 1
    tangent = path.points[top + 1] - path.points[top - 1]
    return find_saddle(
        exact(objective),
        path.points[top],
        tangent,
        spacing=0.5 * float(tangent.norm()),
        barrier=float(losses[top] - max(losses[0], losses[-1])),
        settings=saddle_settings,
    )


# From Müller & Brown (1979), and the roots of the gradient of Himmelblau's polynomial.
KNOWN = [
    (muller_brown, (0, 2), (-0.822001, 0.624313), -40.66484),
    (muller_brown, (1, 2), (0.212487, 0.292988), -72.24894),
    (himmelblau, (0, 1), (3.385154, 0.073852), 13.31193),
    (himmelblau, (0, 2), (0.086678, 2.884255), 67.71915),
    (himmelblau, (2, 3), (-3.073026, -0.081353), 104.01517),
    (himmelblau, (1, 3), (-0.127961, -1.953715), 178.33724),
]


@pytest.mark.parametrize("radius", [None, 1.0])
@pytest.mark.parametrize(("landscape", "pair", "place", "height"), KNOWN)
def test_published_saddles(landscape, pair, place, height, radius):
    """From a path of nine points to the published place, loss and one negative eigenvalue.

    A search held near the peak gets there as a free climb does.
    """
    known = landscape()
    start, end = known.minima[list(pair)]
    found = saddle_of(known.objective, start, end, saddle_settings=SaddleSettings(radius=radius))
    assert found.verdict == "pass"
    assert found.loss == pytest.approx(height, rel=1e-6)
    assert torch.allclose(found.point, torch.tensor(place, dtype=torch.float64), atol=2e-6)
    assert found.gradient_norm < 1e-6 and found.negative == 1
    assert found.eigenvalues[0] < 0 < found.eigenvalues[1]


def test_a_saddle_in_two_hundred_dimensions():
    """Hidden by a rotation, the saddle has the same loss and index, and the direction is found."""
    known = himmelblau()
    hidden = embedded(known.objective, 200, seed=3, stiffness=5.0)
    start, end = hidden.lift(known.minima[[0, 1]])
    found = saddle_of(hidden, start, end)
    assert found.verdict == "pass"
    assert found.loss == pytest.approx(13.31193, rel=1e-6)
    flat = found.direction @ hidden.frame
    assert float(flat.norm()) == pytest.approx(1, abs=1e-4)


def sloping(across, down):
    """A ridge x = 0 whose height falls by ``down`` a unit of y, and bends down by ``across``."""
    return from_function(lambda x: -(x[:, 0] ** 2) - down * x[:, 1] - across * x[:, 1] ** 2)


@pytest.mark.parametrize(
    ("across", "down", "barrier", "verdict"),
    [(0.0, 0.1, 1.0, "moving"), (0.05, 0.1, 1.0, "moving"), (0.0, 0.1, 0.01, "sinks")],
)
def test_a_search_held_near_the_peak_stays_there(across, down, barrier, verdict):
    """Where no saddle is near it ends one spacing away, and says what is left of the barrier."""
    found = find_saddle(
        exact(sloping(across, down)),
        torch.tensor([0.03, 0.0], dtype=torch.float64),
        torch.tensor([1.0, 0.0], dtype=torch.float64),
        spacing=0.5,
        barrier=barrier,
        settings=SaddleSettings(radius=1.0, polish=4),
    )
    assert found.verdict == verdict
    assert found.distance == pytest.approx(0.5, rel=0.01)
    assert abs(float(found.point[0])) < 1e-3  # on top of the ridge
    fall = down * 0.5 + across * 0.25
    assert found.barrier_left == pytest.approx(barrier - fall, abs=2e-3)


def test_a_search_held_near_the_peak_climbs_no_ripple():
    """Where small ripples beside the path bend more than the path, a free climb follows them.

    It goes up to the crest of a ripple and falls off the path; held, the peak stays on top.
    """
    objective = from_function(
        lambda x: -0.5 * x[:, 0] ** 2 + x[:, 1] ** 2 + 0.01 * torch.cos(40 * x[:, 1])
    )
    held, free = (
        find_saddle(
            exact(objective),
            torch.tensor([0.02, 0.15], dtype=torch.float64),
            torch.tensor([1.0, 0.05], dtype=torch.float64),
            spacing=1.0,
            barrier=1.0,
            settings=SaddleSettings(radius=1.0 if near else None),
        )
        for near in (True, False)
    )
    assert held.verdict == "pass" and abs(float(held.point[0])) < 1e-6
    assert held.distance < 0.3 and held.loss < held.peak_loss
    assert free.distance > 1


def quadratic(curvatures):
    bend = torch.tensor(curvatures, dtype=torch.float64)
    return from_function(lambda x: 0.5 * (bend.to(x) * x.square()).sum(1))


@pytest.mark.parametrize(
    ("curvatures", "negative", "verdict"),
    [
        ((-1.0, 2.0, 3.0, 10.0), 1, "pass"),
        ((-1.0, -2.0, 3.0, 10.0), 2, "saddle"),
        ((-1.0, -2.0, -3.0, 10.0), 3, "saddle"),
        ((-1.0, 0.0, 3.0, 0.0), 1, "pass"),
    ],
)
def test_negative_eigenvalues_are_counted(curvatures, negative, verdict):
    """On a quadratic form Lanczos counts what was put in; zero is not negative."""
    found = find_saddle(
        exact(quadratic(curvatures)),
        torch.zeros(4, dtype=torch.float64),
        torch.tensor([1.0, 0.1, 0.0, 0.0], dtype=torch.float64),
        spacing=0.5,
        barrier=1.0,
    )
    assert (found.negative, found.verdict) == (negative, verdict)
    lowest = sorted(c for c in curvatures if c)[0]
    assert found.eigenvalues[0] == pytest.approx(lowest, rel=1e-6)


def test_a_monkey_saddle_is_no_minimum():
    """Its Hessian is zero, and the loss falls in three directions: a degenerate saddle."""
    found = find_saddle(
        exact(from_function(lambda x: x[:, 0] ** 3 - 3 * x[:, 0] * x[:, 1] ** 2)),
        torch.zeros(2, dtype=torch.float64),
        torch.tensor([0.0, 1.0], dtype=torch.float64),
        spacing=0.5,
        barrier=1.0,
    )
    assert found.verdict in ("saddle", "flat") and found.negative == 0
    assert found.degenerate and not found.negative_is_exact


def test_index_three_in_many_dimensions_is_no_pass():
    """Eight products do not see three negative curvatures: the count goes on until a sign is positive."""
    found = find_saddle(
        exact(quadratic((-1.0, -1.0, -2.0, *(1.0 + k for k in range(297))))),
        torch.zeros(300, dtype=torch.float64),
        torch.ones(300, dtype=torch.float64),
        spacing=0.5,
        barrier=1.0,
        settings=SaddleSettings(lanczos=8),
    )
    assert (found.negative, found.negative_is_exact, found.verdict) == (3, True, "saddle")


def test_a_kink_is_told():
    """A ridge of -|x| is no saddle: slopes jump there, whatever the differences say."""
    objective = from_function(lambda x: -x[:, 0].abs() + x[:, 1] ** 2)
    found = find_saddle(
        exact(objective),
        torch.tensor([0.0, 0.01], dtype=torch.float64),
        torch.tensor([1.0, 0.0], dtype=torch.float64),
        spacing=0.2,
        barrier=0.5,
        settings=SaddleSettings(climb=20, polish=2),
    )
    assert found.kink and found.verdict == "kink"


def test_a_flat_top_is_told():
    """Where a plateau is the highest place there is no one point to call the pass."""
    objective = from_function(lambda x: -(torch.relu(x[:, 0].abs() - 1) ** 2) + x[:, 1] ** 2)
    found = find_saddle(
        exact(objective),
        torch.tensor([0.1, 0.05], dtype=torch.float64),
        torch.tensor([1.0, 0.0], dtype=torch.float64),
        spacing=0.3,
        barrier=1.0,
    )
    assert found.flat and found.verdict == "flat"


def test_what_was_left_unfinished_is_told():
    """Without a step the peak is where it was, and says that it is not stationary."""
    known = muller_brown()
    found = find_saddle(
        exact(known.objective),
        torch.tensor([-0.7, 0.6], dtype=torch.float64),
        torch.tensor([1.0, 1.0], dtype=torch.float64),
        spacing=0.1,
        barrier=50.0,
        settings=SaddleSettings(climb=0, polish=0),
    )
    assert found.distance == 0 and not found.stationary and found.verdict == "moving"


@pytest.mark.parametrize("scale", [0.0, math.nan])
def test_scales_are_checked(scale):
    """A peak without a barrier is refused in one sentence."""
    with pytest.raises(ValueError, match="above 0"):
        find_saddle(
            exact(quadratic((-1.0, 1.0))),
            torch.zeros(2, dtype=torch.float64),
            torch.ones(2, dtype=torch.float64),
            spacing=1.0,
            barrier=scale,
        )
