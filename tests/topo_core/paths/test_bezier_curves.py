"""The trained curve: its shape, where its gradients are taken, and what does not change it."""

import json

import pytest
import torch
from torch import nn

from tests.helpers.tiny_network import TinyNetwork
from topo_core.objectives.network_loss import ModuleObjective
from topo_core.objectives.protocol import FunctionObjective, from_function
from topo_core.paths.polyline import line, resample
from topo_core.paths.profiles import loss_profile
from topo_core.paths.settings import PathSettings
from topo_core.paths.starts.bezier_curves import LossAlongCurve, curve, rotation
from topo_core.paths.starts.trained_curves import (
    CurveState,
    Round,
    TrainedCurve,
    begin_curve,
    rounds,
    train_curves,
)
from workers.problems.networks import build
from workers.tasks.specs import NetworkSpec


def trained(objective, start, end, settings, seed=0):
    """The polygon of the trained curve."""
    *_, last = train_curves(
        objective,
        [begin_curve(objective, start, end, seed)],
        settings.resolve(8),
        [seed],
        every=10**6,
    )
    return last[0].points


def de_casteljau(nodes, t):
    """The point at t by repeated interpolation: another way to the same polynomial."""
    while len(nodes) > 1:
        nodes = torch.lerp(nodes[:-1], nodes[1:], t)
    return nodes[0]


@pytest.mark.parametrize("nodes", [2, 3, 5])
def test_a_curve_is_the_polynomial_of_its_nodes(nodes):
    """Points agree with de Casteljau's construction, and the ends are the first and the last node."""
    rows = torch.randn(
        nodes, 7, generator=torch.Generator().manual_seed(nodes), dtype=torch.float64
    )
    times = torch.tensor([0.0, 0.1, 0.5, 0.93, 1.0], dtype=torch.float64)
    expected = torch.stack([de_casteljau(rows, float(t)) for t in times])
    torch.testing.assert_close(curve(rows, times), expected, rtol=1e-14, atol=1e-14)
    assert torch.equal(curve(rows, times)[[0, -1]], rows[[0, -1]])


@pytest.mark.parametrize("seed", range(5))
def test_the_rotation_covers_the_curve_evenly(seed):
    """Any 13 consecutive steps of a curve's training lie in each fifth of it."""
    fifths = (rotation(seed, 200) * 5).long()
    assert all(set(stretch.tolist()) == set(range(5)) for stretch in fifths.unfold(0, 13, 1))


def sampled_times(losses, steps=4000):
    """Times [steps] sampled on a curve whose loss on a minibatch is ``losses(t)``; evenly at first."""
    along = LossAlongCurve(torch.zeros(1, LossAlongCurve.BINS, dtype=torch.float64))
    evenly = rotation(0, steps)
    actual = []
    for number, even in enumerate(evenly[None].split(8, dim=1)):
        at = even if 8 * number < steps / 10 else along.denser(even)
        along.record(at, losses(at))
        actual.append(at[0])
    return torch.cat(actual)


@pytest.mark.parametrize(
    ("losses", "over_mean"),
    [((5.0, 1.0), (5 / 1.5, 1 / 1.5)), ((-7.0, -9.0), (2 / 0.25, 0.0))],
    ids=["positive", "negative: relative to the lowest"],
)
def test_points_are_denser_where_the_loss_is_high(losses, over_mean):
    """With one loss on an eighth of the curve and another elsewhere, r and s of the mean, the density is
    (1 + 2 r²) / (1 + 2 s²) times as high there."""
    hill = (0.25, 0.375)
    met = sampled_times(lambda t: torch.where((t >= hill[0]) & (t < hill[1]), *losses))
    late = met[2000:]
    inside = float(((late >= hill[0]) & (late < hill[1])).double().mean())
    high, low = (1 + 2 * share**2 for share in over_mean)
    assert inside == pytest.approx(high / (high + 7 * low), rel=0.01)


@pytest.mark.parametrize("loss", [0.0, 2.5, -1.0])
def test_points_on_a_level_curve_are_the_rotation(loss):
    """Where all losses are equal, none among them, points are as even as without looking."""
    met = sampled_times(lambda t: torch.full_like(t, loss), steps=400)
    torch.testing.assert_close(met, rotation(0, 400), rtol=0, atol=1e-7)


def test_a_curve_does_not_depend_on_the_unit_of_length():
    """Parameters a thousand times as large give a curve a thousand times as large."""

    def hill(points):
        return torch.exp(-(points**2).sum(1)) + 0.1 * points[:, 1]

    ends = torch.tensor([[-1.0, 0.3], [1.2, 0.1]], dtype=torch.float64)
    settings = PathSettings(points=9, bezier_epochs=60, l2=0.0)
    one = trained(from_function(hill), *ends, settings)
    other = trained(from_function(lambda p: hill(p / 1000)), *(1000 * ends), settings)
    torch.testing.assert_close(other / 1000, one, rtol=1e-9, atol=1e-9)
    assert float((one - line(*ends, 9)).norm(dim=1).max()) > 0.1


def test_the_rate_is_in_units_of_the_difference_of_the_ends():
    """One step with the sign of a gradient moves every coordinate of a control by the rate times the
    root mean square: here of (3, 4), all along a constant slope."""
    slope = from_function(lambda p: p.sum(1))
    ends = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=torch.float64)
    rate = 0.01
    settings = PathSettings(points=5, bezier_epochs=1, bezier_rate=rate, l2=0.0)
    actual = trained(slope, *ends, settings)
    moved = rate * (12.5**0.5) * torch.ones(2, dtype=torch.float64)
    nodes = line(*ends, 5) - torch.tensor([0, 1, 1, 1, 0], dtype=torch.float64)[:, None] * moved
    fine = curve(nodes, torch.linspace(0, 1, 257, dtype=torch.float64))
    torch.testing.assert_close(actual, resample(fine, 5), rtol=1e-12, atol=1e-12)


def test_a_deep_chain_has_a_lower_rate():
    """The default rate for a chain of ten layers is 0.2 / 10²; an explicit 0.002 gives the same curve."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(20, 4, generator=draw, dtype=torch.float64)
    targets = torch.randint(3, (20,), generator=draw)
    hidden = [layer for _ in range(8) for layer in (nn.ReLU(), nn.Linear(5, 5))]
    module = nn.Sequential(nn.Linear(4, 5), *hidden, nn.ReLU(), nn.Linear(5, 3)).double()
    objective = ModuleObjective(module, inputs, targets, batch_size=10)
    ends = torch.randn(2, objective.dimension, generator=draw, dtype=torch.float64)
    given = [
        trained(objective, *ends, PathSettings(bezier_epochs=3, bezier_rate=rate))
        for rate in (None, 0.002, 0.008)
    ]
    assert objective.depth == 10
    torch.testing.assert_close(given[0], given[1], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(given[0], given[2], rtol=1e-6)


@pytest.mark.parametrize(("name", "depth"), [("fc", 3), ("cnn2", 3), ("cnn3", 4), ("resnet", None)])
def test_depth_is_known_of_plain_chains(name, depth):
    """Layers with weights are counted where one follows the other, and not where a residual goes around."""
    shape = (1, 32, 32)
    module = build(NetworkSpec.parse({"name": name}), shape, 10)
    objective = ModuleObjective(
        module, torch.zeros(2, *shape), torch.zeros(2, dtype=torch.long), batch_size=2
    )
    assert objective.depth == depth


def test_a_curve_that_is_not_finite_is_the_line():
    """A loss without finite gradients leaves the straight line, at equal arc length."""
    nowhere = from_function(lambda p: p.sum(1) * torch.nan)
    ends = torch.tensor([[0.0, 0.0], [4.0, 3.0]], dtype=torch.float64)
    actual = trained(nowhere, *ends, PathSettings(points=6, bezier_epochs=3))
    torch.testing.assert_close(actual, line(*ends, 6))


def test_ends_that_coincide_stay():
    """Between two equal ends the curve stays at the end."""
    objective = TinyNetwork()
    end = objective.minimum(0)
    actual = trained(objective, end, end, PathSettings(points=5, bezier_epochs=2))
    torch.testing.assert_close(actual, end.expand(5, -1), rtol=1e-12, atol=0)


def test_more_passes_make_a_lower_curve():
    """Between two minima of a network: the line, a short training, a long one."""
    objective = TinyNetwork()
    ends = objective.minimum(0), objective.minimum(1)

    def height(passes):
        points = trained(objective, *ends, PathSettings(bezier_epochs=passes))
        return loss_profile(objective, points).maximum

    straight = loss_profile(objective, line(*ends, 19)).maximum
    assert height(300) < height(30) < straight


@pytest.mark.parametrize(
    ("batches", "allowed", "expected"),
    [
        (20, 200, [(0, 50, 0.008), (50, 100, 0.004), (100, 200, 0.004)]),
        (20, 500, [(0, 50, 0.008), (50, 100, 0.004), (100, 200, 0.004), (200, 500, 0.004)]),
        (8, 100, [(0, 50, 0.008), (50, 100, 0.004)]),
        (8, 99, [(0, 50, 0.008), (50, 99, 0.004)]),
        (8, 74, [(0, 74, 0.008)]),
        (4, 250, [(0, 100, 0.008), (100, 250, 0.004)]),
        (1, 200, [(0, 200, 0.008)]),
    ],
)
def test_rounds_begin_with_fifty_passes_and_steps_enough(batches, allowed, expected):
    """With few minibatches the first round has more passes; each later round doubles them, and the last one
    has at least half as many as all before it."""
    objective = FunctionObjective(lambda p: p.sum(1), 2, batches=batches)
    actual = rounds(objective, PathSettings(bezier_epochs=allowed).resolve(objective.batches))
    assert actual == tuple(Round(*row) for row in expected)


def test_a_lower_rate_has_longer_rounds():
    """A curve at a quarter of the rate takes four times as many steps to go as far."""
    objective = FunctionObjective(lambda p: p.sum(1), 2, batches=10)
    settings = PathSettings(bezier_epochs=400, bezier_rate=0.002)
    assert [part.last for part in rounds(objective, settings.resolve(objective.batches))] == [
        160,
        400,
    ]


def two_valleys(batches):
    """Valleys at x = -1 and x = 1 with a ridge of height 1 between, as if in minibatches."""
    return FunctionObjective(lambda p: (p[:, 0] ** 2 - 1) ** 2 + p[:, 1] ** 2, 2, batches=batches)


ACROSS = torch.tensor([[-1.0, 0.0], [1.0, 0.1]], dtype=torch.float64)
WITHIN = torch.tensor([[1.0, -0.5], [1.0, 0.4]], dtype=torch.float64)


def test_a_curve_is_done_where_none_is_lower():
    """In one valley the first round is as low as its higher end, and comes with its profile."""
    objective, settings = two_valleys(8), PathSettings()
    stops = list(
        train_curves(
            objective, [begin_curve(objective, *WITHIN, 3)], settings.resolve(8), [3], every=10**6
        )
    )
    actual = stops[-1][0]
    assert len(stops) == 1 and actual.gradient_evaluations == 50 * 8
    measured = loss_profile(objective, actual.points)
    assert torch.equal(actual.profile.losses, measured.losses)
    assert measured.maximum == float(objective.losses(WITHIN).max())


def test_without_a_path_after_it_a_curve_has_all_rounds():
    """From one valley to the other no curve is as low as its higher end; with no epochs of a path, the curve
    is trained in all rounds."""
    objective, settings = two_valleys(8), PathSettings(bezier_epochs=240, epochs=0)
    stops = list(
        train_curves(
            objective, [begin_curve(objective, *ACROSS, 3)], settings.resolve(8), [3], every=10**6
        )
    )
    assert [stop[0].passes for stop in stops[:-1]] == [50, 100]
    assert stops[-1][0].gradient_evaluations == 240 * 8
    assert stops[-1][0].profile is None


def test_a_curve_that_no_longer_falls_is_handed_over():
    """The ridge between the valleys cannot be lowered, so the curve ends after its second round."""
    objective, settings = two_valleys(8), PathSettings(bezier_epochs=400)
    *_, last = train_curves(
        objective, [begin_curve(objective, *ACROSS, 3)], settings.resolve(8), [3], every=10**6
    )
    assert isinstance(last[0], TrainedCurve)
    assert last[0].gradient_evaluations == 100 * 8


@pytest.mark.parametrize("batches", [3, 20])
def test_stops_change_no_bit(batches):
    """A curve that is stored every seven passes and continued from there has the same bits."""
    objective = two_valleys(batches)
    settings = PathSettings(bezier_epochs=110, bezier_rate=0.05)
    *_, whole = train_curves(
        objective, [begin_curve(objective, *ACROSS, 3)], settings.resolve(8), [3], every=10**6
    )
    state = begin_curve(objective, *ACROSS, 3)
    while not isinstance(state, TrainedCurve):
        scalars = json.loads(json.dumps(state.scalars()))
        tensors = {name: rows.clone() for name, rows in state.tensors().items()}
        assert all(rows.ndim == 2 for rows in tensors.values())
        restored = CurveState.restore(tensors, scalars)
        state = next(train_curves(objective, [restored], settings.resolve(8), [3], every=7))[0]
    assert torch.equal(state.points, whole[0].points)
    assert state.gradient_evaluations == whole[0].gradient_evaluations


def test_curves_together_are_done_one_by_one():
    """Of several pairs, one of them ahead, those go on that are not as low as their higher ends."""
    objective, settings = two_valleys(8), PathSettings(bezier_epochs=100)
    pairs, seeds = [WITHIN, ACROSS, WITHIN.flip(0), ACROSS.flip(0)], [1, 2, 3, 4]
    states = [begin_curve(objective, *pair, 0) for pair in pairs]
    states[3] = next(train_curves(objective, [states[3]], settings.resolve(8), [4], every=20))[0]
    actual = {}
    for stop in train_curves(objective, states, settings.resolve(8), seeds, every=20):
        actual |= stop
    for i, (pair, seed) in enumerate(zip(pairs, seeds, strict=True)):
        *_, alone = train_curves(
            objective,
            [begin_curve(objective, *pair, seed)],
            settings.resolve(8),
            [seed],
            every=10**6,
        )
        torch.testing.assert_close(actual[i].points, alone[0].points, rtol=1e-12, atol=1e-12)
        assert actual[i].gradient_evaluations == alone[0].gradient_evaluations
    assert [actual[i].profile is None for i in range(4)] == [False, True, False, True]
