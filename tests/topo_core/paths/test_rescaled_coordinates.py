"""L'(u) = L(S u) with a diagonal S: single coordinates in other units, as of data that nobody standardised.

In up to 48 dimensions searches use whole Hessians (``test_invariance.py``). In more, coordinates get units of
their own if they differ much, and are left alone otherwise.
"""

import functools
import json
import math
from dataclasses import replace

import pytest
import torch

from topo_core.objectives.protocol import FunctionObjective, from_function
from topo_core.paths.coordinate_units import TYPICAL, coordinate_units, units_of
from topo_core.paths.optimize import optimize_path
from topo_core.paths.pass_refinement import PassRefinement, advance_pass, init_pass
from topo_core.paths.settings import PathSettings
from topo_core.paths.solver import PathSolver
from topo_core.paths.starts.initial_paths import find_start
from topo_core.paths.starts.trained_curves import begin_curve, train_curves
from topo_core.paths.state import PathState
from topo_core.paths.update_settings import OptimizerSettings
from topo_core.random_streams import generator

INPUTS, HIDDEN, OUTPUTS = 8, 12, 3
SIZES = (INPUTS * HIDDEN, HIDDEN, HIDDEN * OUTPUTS, OUTPUTS)  # 147 parameters
RIDGE = 3e-3
CURVE_AND_PATH = PathSettings(start="bezier", bezier_epochs=200, epochs=20)


def normal(*shape, of):
    return torch.randn(shape, generator=generator(of, "rescaled"), dtype=torch.float64)


DATA, LABELS = normal(60, INPUTS, of=1), normal(60, of=2).mul(10).long() % OUTPUTS


def network(points):
    """Cross entropy of a tanh network on random labels, with a ridge: [k, 147] -> [k]."""
    first, bias, last, top = points.split(SIZES, dim=1)
    hidden = torch.tanh(DATA @ first.reshape(-1, INPUTS, HIDDEN) + bias[:, None])
    rows = hidden @ last.reshape(-1, HIDDEN, OUTPUTS) + top[:, None]
    each = -torch.log_softmax(rows, -1)[:, torch.arange(60), LABELS]
    return each.mean(1) + 0.5 * RIDGE * points.square().sum(1)


@functools.cache
def ends():
    """Two trained networks [2, 147]."""
    points = (0.5 * torch.stack([normal(sum(SIZES), of=k) for k in (3, 4)])).requires_grad_(True)
    adam = torch.optim.Adam([points], lr=0.03)
    for step in range(300):
        adam.param_groups[0]["lr"] = 0.03 * (1 - step / 300)
        adam.zero_grad()
        network(points).sum().backward()
        adam.step()
    return points.detach()


def scales(kind):
    """The diagonal of S [147]: powers of two, with which products are exact, or any numbers."""
    draw = normal(sum(SIZES), of=5)
    layers = torch.cat(
        [torch.full((n,), c) for n, c in zip(SIZES, (2**-7, 1, 2**7, 1), strict=True)]
    )
    of_inputs = (2.0 ** (6 * normal(INPUTS, of=6)).round()).repeat_interleave(HIDDEN)
    inputs = torch.cat([of_inputs, torch.ones(sum(SIZES[1:]), dtype=torch.float64)])
    stiff = torch.ones(sum(SIZES), dtype=torch.float64)
    stiff[SIZES[0]] = 2**12
    return {
        "one by one": 2.0 ** (4 * draw).round(),
        "any numbers": 10.0**draw,
        "layers": layers.to(torch.float64),
        "inputs": inputs.to(torch.float64),
        "one stiff": stiff,
    }[kind]


def rescaled(scale, batches=1):
    """The loss in coordinates u = θ / S, and the two ends [2, 147]."""
    loss = FunctionObjective(lambda u: network(u * scale), sum(SIZES), batches=batches)
    return loss, ends() / scale


def height(scale, settings=CURVE_AND_PATH, batches=1):
    """Height of the path between the two ends above the higher one."""
    loss, points = rescaled(scale, batches)
    path = optimize_path(loss, *points, settings)
    return path.profile.maximum - float(loss.losses(points).max())


@functools.cache
def given(batches=1):
    """The height in the given coordinates."""
    return height(torch.ones(sum(SIZES), dtype=torch.float64), batches=batches)


KINDS = ["one by one", "any numbers", "layers", "inputs", "one stiff"]


@pytest.mark.parametrize(
    "kinds", [["one by one", "one stiff"], pytest.param(KINDS, marks=pytest.mark.slow)]
)
def test_heights_do_not_depend_on_the_scales_of_coordinates(kinds):
    """Curve and path are equally low for every S, and about as low as in the given coordinates.

    Without units of the coordinates they were 8 to 32,000 times as high.
    """
    actual = [height(scales(kind)) for kind in kinds]
    assert actual == pytest.approx(actual[:1] * len(kinds), rel=1e-6)
    assert max(actual) <= 1.5 * given()


@pytest.mark.slow
@pytest.mark.parametrize("batches", [2, 8])
@pytest.mark.parametrize("settings", [CURVE_AND_PATH, PathSettings(start="line", epochs=40)])
def test_heights_of_minibatch_paths_do_not_depend_on_the_scales(settings, batches):
    """The same with the optimiser of minibatches, whose rate is absolute, and from the straight line."""
    actual = [height(scales(kind), settings, batches) for kind in KINDS[:2]]
    assert actual[0] == pytest.approx(actual[1], rel=1e-6)


def test_well_scaled_coordinates_are_kept():
    """The units of an ordinary network differ little, so its paths do not change; four gradients tell."""
    loss, points = rescaled(1.0)
    assert coordinate_units(loss, *points, 0) == (None, 4)
    few, _ = coordinate_units(from_function(torch.Tensor.square, 5), *torch.ones(2, 5), 0)
    assert few is None


@pytest.mark.parametrize("kind", KINDS)
def test_units_follow_the_scales(kind):
    """θ / unit is the same in all coordinates: bit for bit where S has powers of two."""
    scale = scales(kind)
    other = 2.0**-3 if kind == "any numbers" else 2.0 ** torch.arange(sum(SIZES)).remainder(9)
    units, _ = coordinate_units(*flat(rescaled(scale)), 0)
    expected, _ = coordinate_units(*flat(rescaled(scale * other)), 0)
    assert torch.equal(units, expected * other)
    difference = (ends()[1] - ends()[0]) / scale / units
    assert float(difference.square().mean().sqrt()) == pytest.approx(TYPICAL)


def flat(case):
    loss, points = case
    return loss, *points


def test_units_of_coordinates_without_size_or_gradient_are_finite():
    """A coordinate that is 0 at both ends has the unit of its gradient, and one with neither the median."""
    units = units_of(
        torch.tensor([1.0, 4.0, 0.0, 2.0, 0.0]), torch.tensor([1.0, 4.0, 2.0, 0.0, 0.0])
    )
    torch.testing.assert_close(units, torch.tensor([1.0, 1.0, 0.5, 200.0, 1.0]))
    assert units_of(torch.zeros(3), torch.ones(3)) is None
    assert units_of(torch.ones(3), torch.tensor([1.0, math.inf, 1.0])) is None


@pytest.mark.parametrize("optimizer", [None, "sgd"])
def test_a_checkpoint_keeps_the_units(optimizer):
    """A restored path continues with the same bits; the rates of a named optimiser keep their meaning."""
    loss, points = rescaled(scales("one by one"))
    named = None if optimizer is None else OptimizerSettings(optimizer, lr=1e-9)
    solver = PathSolver(loss, PathSettings(start="line", epochs=30, optimizer=named))
    first = find_start(loss, *points, solver.resolved, 0)
    begun = solver.begin(first.points, spent=first.gradient_evaluations, units=first.units)
    assert (begun.units is None) == (optimizer is not None)
    state = solver.advance(begun, 0, until_epoch=7)
    tensors = {name: rows.clone() for name, rows in state.tensors().items()}
    assert all(rows.ndim == 2 for rows in tensors.values())
    restored = PathState.restore(tensors, json.loads(json.dumps(state.scalars())))
    whole, continued = (solver.advance(one, 0, until_epoch=30) for one in (begun, restored))
    assert torch.equal(whole.points, continued.points)
    assert torch.equal(whole.points[[0, -1]], points)


def test_curves_with_and_without_units_train_together():
    """In lockstep each curve has the steps that it has alone."""
    loss, points = rescaled(scales("one by one"))
    resolved = PathSettings(start="bezier", bezier_epochs=20).resolve(1, sum(SIZES))
    begun = begin_curve(loss, *points, 0)
    states = [begun, replace(begun, units=None)]
    *_, together = train_curves(loss, states, resolved, [0, 0], every=100)
    for k, state in enumerate(states):
        *_, alone = train_curves(loss, [state], resolved, [0], every=100)
        torch.testing.assert_close(together[k].points, alone[0].points, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(together[0].points, together[1].points)


@pytest.mark.slow
def test_refinement_does_not_depend_on_the_scales():
    """A path led over saddles ends at the same saddle, whether or not single coordinates are rescaled."""
    heights = []
    for scale in (torch.ones(sum(SIZES), dtype=torch.float64), scales("one by one")):
        loss, points = rescaled(scale)
        state = init_pass(loss, optimize_path(loss, *points, CURVE_AND_PATH).points)
        while not state.ended:
            state = advance_pass(loss, state, PassRefinement(rounds=3))
        heights.append(state.best_height - float(loss.losses(points).max()))
    assert heights[0] == pytest.approx(heights[1], rel=0.01)
