"""Proved bounds: never below the loss, close to it, also where samples see nothing."""

import itertools

import pytest
import torch
from torch import nn

from topo_core.objectives.interval_loss import IntervalLoss
from topo_core.objectives.losses import CrossEntropy, Ridge
from topo_core.objectives.losses.squared_error import SquaredError
from topo_core.objectives.network_loss import ModuleObjective
from topo_core.paths.profiles import loss_profile
from topo_core.paths.proved_bounds import proved_maximum

ACTIVATIONS = [nn.Tanh, nn.Sigmoid, nn.Softplus, nn.ReLU]


def problem(activation, loss, seed, ridge=1e-3):
    """A random network with data: what encloses its loss, and the loss."""
    draw = torch.Generator().manual_seed(seed)
    module = nn.Sequential(
        nn.Linear(2, 5), activation(), nn.Linear(5, 4), activation(), nn.Linear(4, 3)
    ).double()
    inputs = torch.randn(30, 2, generator=draw, dtype=torch.float64)
    targets = (
        torch.randint(3, (30,), generator=draw)
        if isinstance(loss, CrossEntropy)
        else torch.randn(30, 3, generator=draw, dtype=torch.float64)
    )
    objective = ModuleObjective(
        module,
        inputs,
        targets,
        batch_size=30,
        loss=loss,
        ridge=Ridge(ridge, r"weight"),
        strategy="literal",
    )
    enclosed = IntervalLoss(module, inputs, targets, loss=loss, ridge=Ridge(ridge, r"weight"))
    points = torch.randn(3, objective.dimension, generator=draw, dtype=torch.float64)
    return enclosed, objective, points


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", [CrossEntropy(), SquaredError()], ids=["classes", "numbers"])
def test_a_bound_is_above_every_sample_and_close(activation, loss):
    """On pieces of any length, and on a polygon: above 4,000 samples, and within the tolerance."""
    enclosed, objective, points = problem(activation, loss, 3)
    shares = torch.linspace(0, 1, 101, dtype=torch.float64)[:, None]
    for part in (1e-6, 1e-3, 0.1, 1.0):
        end = torch.lerp(points[0], points[1], part)
        middle, bound = enclosed.upper(points[:1], end[None])
        losses = objective.losses(torch.lerp(points[0], end, shares))
        assert float(bound) >= float(losses.max())
        assert float(middle) == pytest.approx(float(losses[50]), rel=1e-9)
        assert float(middle) >= float(losses[50])
    found = proved_maximum(enclosed, points, tolerance=0.01)
    shares = torch.linspace(0, 1, 2001, dtype=torch.float64)[:, None]
    sampled = max(
        float(objective.losses(torch.lerp(a, b, shares)).max())
        for a, b in itertools.pairwise(points)
    )
    assert found.tight and sampled <= found.upper <= found.reached + 0.01
    assert found.reached <= sampled + 1e-3 * sampled


def test_a_bound_sees_a_spike_between_samples():
    """A unit that is on for a ten-thousandth of the path: the samples miss it, the bound does not."""
    module = nn.Sequential(nn.Linear(1, 2), nn.Sigmoid(), nn.Linear(2, 1)).double()
    inputs, targets = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    enclosed = IntervalLoss(module, inputs, targets, loss=SquaredError())
    objective = ModuleObjective(
        module, inputs, targets, batch_size=1, loss=SquaredError(), strategy="literal"
    )
    # The outputs σ(s) − σ(s − 4) with s from −1e5 to 1e5: a bump of height 0.76 at s = 2.
    first = [-1.1e5, -1.1e5, 0.0, -4.0, 1.0, -1.0, 0.0]
    last = [0.9e5, 0.9e5, 0.0, -4.0, 1.0, -1.0, 0.0]
    points = torch.tensor([first, last], dtype=torch.float64)
    profile = loss_profile(objective, points)
    found = proved_maximum(enclosed, points, tolerance=1e-3)
    top = (torch.tensor(2.0).sigmoid() - torch.tensor(-2.0).sigmoid()) ** 2
    assert profile.maximum < 0.01
    assert found.upper >= float(top) - 1e-6 and found.upper == pytest.approx(float(top), abs=2e-3)


def test_a_bound_holds_when_it_is_cut_short():
    """With few pieces it is loose, says so, and is still a bound."""
    enclosed, objective, points = problem(nn.Tanh, CrossEntropy(), 1)
    found = proved_maximum(enclosed, points, tolerance=1e-12, max_pieces=16)
    assert not found.tight
    assert found.upper >= loss_profile(objective, points).maximum


@pytest.mark.parametrize(
    ("module", "loss", "says"),
    [
        (
            nn.Sequential(nn.Linear(2, 3), nn.GELU(), nn.Linear(3, 2)),
            None,
            "chains of Linear layers",
        ),
        (
            nn.Sequential(nn.Linear(2, 3), nn.Softplus(2.0), nn.Linear(3, 2)),
            None,
            "chains of Linear",
        ),
        (
            nn.Sequential(nn.Linear(2, 2)),
            CrossEntropy(label_smoothing=0.1),
            "cross entropy of class numbers",
        ),
    ],
)
def test_what_cannot_be_bounded_is_refused(module, loss, says):
    """One sentence, instead of a number that is none."""
    with pytest.raises(ValueError, match=says):
        IntervalLoss(module, torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64), loss=loss)


def test_a_network_that_takes_an_example_row_by_row_is_refused():
    """Its first layer acts on the last axis, where the bound would take the whole example."""
    module = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
    with pytest.raises(ValueError, match="this network takes 2"):
        IntervalLoss(module, torch.zeros(4, 3, 2), torch.zeros(4, 3, 2), loss=SquaredError())


def test_an_overflow_gives_no_bound():
    """Weights whose products overflow have the bound infinity, and the search for a tighter one ends."""
    enclosed, _, points = problem(nn.ReLU, SquaredError(), 2)
    found = proved_maximum(enclosed, 1e200 * points[:2], max_pieces=8)
    assert found.upper == float("inf") and not found.tight
