"""The loop on a path's state: going on, best-so-far, slots, outcomes."""

import itertools
import json
import math
from dataclasses import asdict, replace

import pytest
import torch

from tests.helpers.tiny_network import TinyNetwork
from topo_core.objectives.protocol import from_function
from topo_core.paths.convergence import Outcome, further_fall
from topo_core.paths.displacements import displacement, empty_slots
from topo_core.paths.insertion_settings import Insertion
from topo_core.paths.optimize import optimize_path
from topo_core.paths.polyline import line
from topo_core.paths.profiles import loss_profile
from topo_core.paths.schedules import Schedule
from topo_core.paths.settings import PathSettings
from topo_core.paths.solver import PathSolver
from topo_core.paths.state import EpochRecord, PathState
from topo_core.paths.update_settings import OptimizerSettings
from topo_core.random_streams import generator
from topo_core.reference_landscapes.surfaces import muller_brown, two_wells

VARIANTS = {
    "sgd": {},
    "momentum": {"optimizer": OptimizerSettings("momentum", lr=0.01)},
    "adam": {"optimizer": OptimizerSettings("adam", lr=0.003)},
    "scaled_adam": {"optimizer": OptimizerSettings("scaled_adam", lr=0.2)},
    "lion": {"optimizer": OptimizerSettings("lion", lr=0.001)},
    "secant": {"optimizer": OptimizerSettings("secant")},
    "paper": {"force": "paper", "insertion": Insertion(every=3, threshold=1.0, ends="paper")},
    "string": {"force": "string"},
    "spring": {"force": "spring", "insertion": Insertion(every=2, criterion="residual")},
    "insertion": {"insertion": Insertion(every=2, criterion="loss", threshold=0.8)},
    "subset": {"points_per_step": 3, "optimizer": OptimizerSettings("adam", lr=0.003)},
    "climbing": {"climbing_epochs": 4},
}


def network_start(points=7):
    objective = TinyNetwork()
    return objective, line(objective.minimum(0), objective.minimum(1), points)


def same(first: PathState, second: PathState) -> None:
    assert first.scalars() == second.scalars()
    assert first.tensors().keys() == second.tensors().keys()
    for name, rows in first.tensors().items():
        assert torch.equal(rows, second.tensors()[name]), name


@pytest.mark.parametrize("name", VARIANTS)
def test_interruption_changes_no_bit(name):
    """Ten epochs at once, and ten with the state written and read after each, are one."""
    objective, points = network_start()
    settings = PathSettings(epochs=10, evaluate_every=3, **VARIANTS[name])
    solver = PathSolver(objective, settings)
    whole = solver.advance(solver.begin(points), 5, until_epoch=10)
    state = solver.begin(points)
    for epoch in range(1, 11):
        state = solver.advance(state, 5, until_epoch=epoch)
        scalars = json.loads(json.dumps(state.scalars(), allow_nan=False))
        tensors = {name: rows.clone() for name, rows in state.tensors().items()}
        state = PathState.restore(tensors, scalars)
    same(whole, state)


def test_the_best_path_is_measured_once():
    """Its profile comes with the state; after a checkpoint it is measured again, to the same bits."""
    objective, points = network_start()
    settings = PathSettings(epochs=6, evaluate_every=2)
    solver = PathSolver(objective, settings)
    state = solver.advance(solver.begin(points), 0, until_epoch=6)
    restored = PathState.restore(state.tensors(), state.scalars())
    assert restored.best_profile is None
    measured = solver.solution(restored).profile
    assert solver.solution(state).profile is state.best_profile
    assert torch.equal(measured.losses, state.best_profile.losses)
    assert torch.equal(measured.positions, state.best_profile.positions)


def test_a_state_is_not_written_to():
    """Advancing leaves the state that it started from as it was."""
    objective, points = network_start()
    settings = PathSettings(epochs=4, optimizer=OptimizerSettings("adam"))
    solver = PathSolver(objective, settings)
    state = solver.advance(solver.begin(points), 0, until_epoch=2)
    before = {name: rows.clone() for name, rows in state.tensors().items()}
    solver.advance(state, 0, until_epoch=4)
    assert all(torch.equal(before[name], rows) for name, rows in state.tensors().items())


def test_tensors_are_tables():
    """Every stored tensor is 2-D, one dtype, so that a table of rows can hold it."""
    objective, points = network_start()
    settings = PathSettings(epochs=2, optimizer=OptimizerSettings("adam"))
    solver = PathSolver(objective, settings)
    state = solver.advance(solver.begin(points), 0, until_epoch=2)
    assert {rows.ndim for rows in state.tensors().values()} == {2}
    assert {rows.dtype for rows in state.tensors().values()} == {points.dtype}


def test_the_best_path_is_kept():
    """With a rate that ruins the path, the start is returned, and not the last path."""
    objective, points = network_start()
    settings = PathSettings(
        epochs=10,
        evaluate_every=1,
        max_move=None,
        optimizer=OptimizerSettings(lr=20.0),
        schedule=Schedule("constant"),
    )
    solver = PathSolver(objective, settings)
    state = solver.advance(solver.begin(points), 0, until_epoch=10)
    solution = solver.solution(state)
    heights = [record.dense_maximum for record in state.history]
    assert heights[-1] > heights[0]
    assert solution.profile.maximum == min(heights)


def test_ends_do_not_move():
    """The two ends of the result are the ones that were given, to the bit."""
    objective, points = network_start()
    settings = PathSettings(epochs=20, start="line")
    solution = optimize_path(objective, points[0], points[-1], settings)
    assert torch.equal(solution.points[0], points[0])
    assert torch.equal(solution.points[-1], points[-1])


def test_a_path_through_nothing_finite_diverges():
    """A loss that is not finite ends the run with an outcome, a reason and the best path."""
    cliff = from_function(lambda p: torch.where(p[:, 1].abs() > 0.05, torch.inf, 1 - p[:, 0] ** 2))
    start, end = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    points = line(start, end, 5)
    points[2, 1] = 0.01
    pull = from_function(lambda p: cliff.function(p) - 5 * p[:, 1])
    settings = PathSettings(
        points=5, epochs=30, evaluate_every=1, optimizer=OptimizerSettings(lr=0.05)
    )
    solver = PathSolver(pull, settings)
    state = solver.advance(solver.begin(points), 0, until_epoch=30)
    solution = solver.solution(state)
    assert solution.outcome is Outcome.DIVERGED
    assert "learning rate" in solution.evidence.reason
    assert math.isfinite(solution.profile.maximum)
    assert solver.is_finished(state)


def test_an_infinite_gradient_step_diverges():
    """Points that overflow end the run; the reason names the knob to turn."""
    landscape = muller_brown()
    settings = PathSettings(
        start="line", max_move=None, optimizer=OptimizerSettings(lr=1e6), epochs=200
    )
    solution = optimize_path(landscape.objective, *landscape.minima[:2], settings)
    assert solution.outcome is Outcome.DIVERGED
    assert "lower the learning rate" in solution.evidence.reason
    assert bool(solution.points.isfinite().all())


def test_budget_is_not_convergence():
    """A path stopped while its height still falls says BUDGET, and by how much it would fall."""
    landscape = muller_brown()
    settings = PathSettings(start="line", epochs=12, evaluate_every=1)
    solution = optimize_path(landscape.objective, *landscape.minima[:2], settings)
    assert solution.outcome is Outcome.BUDGET
    assert solution.evidence.remaining_fall > solution.evidence.allowed_fall


def test_no_path_falls_below_its_higher_end():
    """However fast the height still falls, what is to come ends there; one that is there has converged."""
    landscape = muller_brown()
    settings = PathSettings(start="line", epochs=6, evaluate_every=1)
    solver = PathSolver(landscape.objective, settings)
    start = solver.begin(line(*landscape.minima[:2], 9))
    state = solver.advance(start, 0, until_epoch=6)
    solution = solver.solution(state)
    steep = records([9e3, 9e3, 6e3, 3e3, 1e3], [0.0, 1.0, 2.0, 3.0, 4.0])
    outcome, evidence = solver.judge(replace(state, history=steep), solution.profile)
    ends = max(solution.profile.losses[0], solution.profile.losses[-1])
    assert outcome is Outcome.BUDGET
    assert evidence.remaining_fall == pytest.approx(float(solution.profile.maximum - ends))
    flat = replace(solution.profile, losses=solution.profile.losses.clamp(max=float(ends)))
    outcome, evidence = solver.judge(replace(state, history=steep), flat)
    assert (outcome, evidence.remaining_fall) == (Outcome.CONVERGED, 0.0)


def records(heights, times):
    return tuple(
        EpochRecord(i, 0.0, t, 0.0, h, 0.0, 0.0, 1.0, 1.0, 3, 0)
        for i, (h, t) in enumerate(zip(heights, times, strict=True))
    )


def test_further_fall_of_a_geometric_history():
    """Where each quarter brings half of the one before, what is to come is the last quarter."""
    history = records([1.0, 0.5, 0.25, 0.125, 0.0625], [0.0, 1.0, 2.0, 3.0, 4.0])
    last, further = further_fall(history)
    assert last == pytest.approx(0.0625)
    assert further == pytest.approx(0.0625)


def test_further_fall_is_not_fooled_by_a_decayed_rate():
    """Epochs at a vanishing rate bring no fall, and no evidence of convergence either."""
    falling = records([1.0, 0.75, 0.5, 0.25], [0.0, 1.0, 2.0, 3.0])
    idle = records([1.0, 0.75, 0.5, 0.25, 0.25, 0.25], [0.0, 1.0, 2.0, 3.0, 3.001, 3.002])
    assert further_fall(idle)[1] == pytest.approx(further_fall(falling)[1], rel=0.01)


def test_inserted_points_carry_slots():
    """A run with insertion has slots for as many points as the path has."""
    objective, points = network_start()
    settings = PathSettings(
        epochs=6,
        optimizer=OptimizerSettings("adam", lr=0.003),
        insertion=Insertion(every=2, criterion="distance", threshold=0.5),
    )
    solver = PathSolver(objective, settings)
    state = solver.advance(solver.begin(points), 0, until_epoch=6)
    assert len(state.points) == 7 + 2 * 2
    assert {len(rows) for name, rows in state.tensors().items() if name != "best"} == {11}


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_slots_move_with_the_points(optimizer):
    """Redistribution carries a slot that is linear along the curve to linear values."""
    landscape = two_wells()
    points = line(*landscape.minima, 7)
    points[1:-1, 0] = torch.tensor([-0.9, -0.8, -0.7, 0.1, 0.8], dtype=torch.float64)
    settings = PathSettings(
        points=7,
        epochs=1,
        l2=0.0,
        focus=0.0,
        redistribute_every=1,
        optimizer=OptimizerSettings(optimizer, lr=1e-12),
        schedule=Schedule("constant"),
    )
    flat = from_function(lambda p: 0.0 * p.sum(1))
    solver = PathSolver(flat, settings)
    state = solver.begin(points)
    slots = {
        name: (points[:, :1] + 2).expand_as(rows).clone() for name, rows in state.slots.items()
    }
    before = PathState.restore(
        {**state.tensors(), **{f"slots.{name}": rows for name, rows in slots.items()}},
        {**state.scalars(), "best_maximum": math.inf},  # a flat path has nothing to gain
    )
    after = solver.advance(before, 0, until_epoch=1)
    factors = {"velocity": 0.9, "mean": 0.9, "square": 0.999, "count": 1.0}
    torch.testing.assert_close(after.points, line(*landscape.minima, 7))
    for name, rows in after.slots.items():
        moved = factors[name] * (after.points[1:-1, :1] + 2) + (1.0 if name == "count" else 0.0)
        torch.testing.assert_close(rows[1:-1], moved.expand_as(rows[1:-1]), atol=1e-9, rtol=0)


def test_coincident_points_are_merged_and_counted():
    """Repeated points of the start are dropped, and the state says how many."""
    landscape = two_wells()
    points = line(*landscape.minima, 5)
    points = torch.cat([points[:3], points[2:3], points[2:]])
    state = PathSolver(landscape.objective, PathSettings()).begin(points)
    assert (len(state.points), state.merged) == (5, 2)


def test_subset_is_unbiased():
    """Over many steps each moving point is drawn equally often."""
    counts = torch.zeros(6)
    for epoch in range(3000):
        order = torch.randperm(6, generator=generator(1, "points", epoch, 0))[:2]
        counts[order] += 1
    assert (counts / 1000 - 1).abs().max() < 0.1


def test_subset_moves_only_some_points():
    """With ``points_per_step`` a step moves that many points, and counts as many gradients."""
    objective, points = network_start()
    settings = PathSettings(
        epochs=1, points_per_step=2, redistribute_every=0, optimizer=OptimizerSettings()
    )
    one_batch = TinyNetwork(batches=1)
    solver = PathSolver(one_batch, settings)
    state = solver.begin(points)
    after = solver.advance(state, 0, until_epoch=1)
    assert int((after.points != state.points).any(1).sum()) == 2
    assert after.gradient_evaluations == 2
    assert objective.batches == 3


def test_climbing_puts_a_point_on_the_saddle():
    """In the last phase the highest point goes up along the path to where the gradient is 0."""
    landscape = muller_brown()
    settings = PathSettings(start="line", epochs=400, climbing_epochs=200, focus=0.0)
    start = line(*landscape.minima[:2], 19)
    solver = PathSolver(landscape.objective, settings)
    state = solver.begin(start)
    state = solver.advance(state, 0, until_epoch=400)
    losses = landscape.objective.losses(state.points)
    top = state.points[int(losses.argmax())]
    assert float(losses.max()) == pytest.approx(-40.664843, abs=1e-5)
    torch.testing.assert_close(top, top.new_tensor([-0.8220, 0.6243]), atol=1e-3, rtol=0)


def test_a_path_at_rest_ends_early():
    """With exact gradients a path that no longer moves ends its run, as CONVERGED."""
    landscape = muller_brown()
    settings = PathSettings(start="line")
    solution = optimize_path(landscape.objective, *landscape.minima[1:], settings)
    assert solution.outcome is Outcome.CONVERGED
    assert solution.history[-1].epoch < settings.resolve(1).epochs


def test_longer_run_continues_a_checkpoint():
    """Up to ``depends_on_epochs_from`` a run of 8 epochs and one of 16 are the same run."""
    objective, points = network_start()
    short, long = (PathSettings(epochs=n, evaluate_every=1) for n in (8, 16))
    common = short.resolve(objective.batches).depends_on_epochs_from
    assert common == 4
    states = [
        PathSolver(objective, s).advance(
            PathSolver(objective, s).begin(points), 0, until_epoch=common
        )
        for s in (short, long)
    ]
    same(*states)
    beyond = [
        PathSolver(objective, s).advance(
            PathSolver(objective, s).begin(points), 0, until_epoch=common + 2
        )
        for s in (short, long)
    ]
    assert not torch.equal(beyond[0].points, beyond[1].points)


def test_height_agrees_with_a_dense_grid():
    """The height of a result is that of a much denser grid on its stored points."""
    objective, points = network_start()
    solution = optimize_path(
        objective, points[0], points[-1], PathSettings(start="line", epochs=30)
    )
    alphas = torch.linspace(0, 1, 501, dtype=torch.float64)[:, None]
    dense = max(
        float(objective.losses(torch.lerp(a, b, alphas)).max())
        for a, b in itertools.pairwise(solution.points)
    )
    assert solution.profile.maximum == pytest.approx(dense, rel=1e-4)
    assert loss_profile(objective, solution.points).maximum == solution.profile.maximum


def test_norms_of_each_point_have_the_recorded_mean_square():
    """One norm a moving point; their root mean square is the number of the record; JSON keeps them."""
    landscape = two_wells()
    settings = PathSettings(points=7, epochs=20, evaluate_every=10)
    solution = optimize_path(landscape.objective, *landscape.minima, settings)
    for record in solution.history[1:]:
        for each, mean in (
            (record.normal_norms, record.normal_norm),
            (record.tangent_norms, record.tangent_norm),
        ):
            assert len(each) == 7 - 2
            assert math.sqrt(sum(v * v for v in each) / len(each)) == pytest.approx(mean, rel=1e-6)
        assert type(record).restore(json.loads(json.dumps(asdict(record)))) == record


def test_norms_of_some_points_are_not_those_of_all():
    """Where only a few points move in a step, no norm is ascribed to any."""
    landscape = two_wells()
    settings = PathSettings(points=7, epochs=20, evaluate_every=10, points_per_step=2)
    solution = optimize_path(landscape.objective, *landscape.minima, settings)
    assert all(record.normal_norms == () for record in solution.history)


def test_lion_moves_each_coordinate_by_the_rate():
    """Two steps by hand: the sign of (0.9 mean + 0.1 gradient), the mean with the far beta."""
    settings = OptimizerSettings("lion", lr=0.1, betas=(0.9, 0.5))
    slots = empty_slots(settings, torch.zeros(1, 3, dtype=torch.float64))
    first = torch.tensor([[2.0, -1.0, 0.0]], dtype=torch.float64)
    second = torch.tensor([[-4.0, -1.0, 1.0]], dtype=torch.float64)
    none = {"spacing": torch.ones(1, dtype=torch.float64), "max_move": None}
    moved = displacement(settings, slots, first.clone(), 0.1, **none)
    assert moved.tolist() == [[0.1, -0.1, 0.0]]
    assert slots["mean"].tolist() == [[1.0, -0.5, 0.0]]
    moved = displacement(settings, slots, second.clone(), 0.2, **none)
    assert moved.tolist() == [[0.2, -0.2, 0.2]]  # 0.9 - 0.4, -0.45 - 0.1, 0.1
    assert slots["mean"].tolist() == [[-1.5, -0.75, 0.5]]


def slope(points):
    """A valley that falls all along the first coordinate: a straight path has its height at the start."""
    return 3 - points[:, 0] + points[:, 1] ** 2


@pytest.mark.parametrize("force", ["improved", "paper"])
def test_a_path_as_low_as_its_higher_end_is_done(force):
    """No path is lower, so nothing is computed; the literal Algorithm 2 goes on to its end."""
    ends = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    settings = PathSettings(points=5, epochs=7, start="line", force=force)
    solution = optimize_path(from_function(slope), *ends, settings)
    assert solution.profile.maximum == 3.0
    assert solution.history[-1].epoch == (0 if force == "improved" else 7)
    assert solution.outcome is Outcome.CONVERGED
    assert solution.evidence.remaining_fall == 0.0
    assert solution.evidence.reason == "no path is lower than its higher end."


def test_without_epochs_the_start_is_measured():
    """Zero epochs give the initial path, its height and no claim that it has converged."""
    objective, points = network_start()
    settings = PathSettings(points=7, epochs=0, start="line")
    solution = optimize_path(objective, points[0], points[-1], settings)
    assert torch.equal(solution.points, points)
    assert solution.profile.maximum == loss_profile(objective, points).maximum
    assert solution.gradient_evaluations == 0
    assert solution.outcome is Outcome.BUDGET
    ends = max(solution.profile.losses[0], solution.profile.losses[-1])
    assert solution.evidence.remaining_fall == pytest.approx(float(solution.profile.maximum - ends))


def test_epochs_that_only_harm_prove_nothing():
    """A path that was never lower than its start has used its budget: it has not converged."""
    objective, points = network_start()
    settings = PathSettings(
        points=7,
        epochs=6,
        evaluate_every=1,
        max_move=None,
        optimizer=OptimizerSettings(lr=20.0),
        schedule=Schedule("constant"),
    )
    solver = PathSolver(objective, settings)
    state = solver.advance(solver.begin(points), 0, until_epoch=6)
    solution = solver.solution(state)
    assert state.best_epoch == 0 and not state.failure
    assert solution.outcome is Outcome.BUDGET
    ends = max(solution.profile.losses[0], solution.profile.losses[-1])
    assert solution.evidence.remaining_fall == pytest.approx(float(solution.profile.maximum - ends))
    assert "no epoch was lower than the start" in solution.evidence.reason
