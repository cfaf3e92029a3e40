"""From the peak of a path to a saddle, as a task: what its record says."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from orchestrator.planning.saddle_refinement import unlisted_ends
from tests.helpers.interruptions import check_interruptions, check_stops_within_steps
from tests.helpers.problems import problem_of
from topo_core.critical_points.saddles import SaddleSettings
from topo_core.paths.pass_refinement import PassRefinement
from topo_core.paths.polyline import line
from topo_core.paths.profiles import loss_profile
from workers.execution import stationarity
from workers.execution.path_task import optimize_one_path
from workers.execution.progress import Interrupted, TaskProgress
from workers.execution.saddle_task import refine_one_saddle
from workers.execution.task_run import TaskContext
from workers.execution.train_minimum import train_minimum
from workers.problems.evaluation import Evaluation
from workers.problems.loaded_problem import load_problem
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store
from workers.tasks.minimum_settings import MinimumSettings
from workers.tasks.minimum_tasks import TrainMinimum
from workers.tasks.path_tasks import OptimizePath, PathFamily, PathTaskSettings
from workers.tasks.saddle_tasks import RefineSaddle


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    """Two polished minima, the straight path between them, and the task that follows its peak."""
    network = {"name": "fc", "hidden": [2], "activation": "tanh"}
    loss = {"name": "cross_entropy", "ridge": 1e-2}
    problem = problem_of(network, {"name": "digits", "subset": 60}, loss=loss)
    store = Store(open_objects(str(tmp_path_factory.mktemp("run"))))
    context = TaskContext(load_problem(problem, Evaluation()), store, TaskProgress())
    records = [
        train_minimum(TrainMinimum(problem, MinimumSettings(epochs=3), index, 0), context)
        for index in range(2)
    ]
    ends = [context.loaded.flat(store.read_minimum(record.object)) for record in records]
    path = store.publish_path("path", {"points": line(*ends, 7)})
    a, b = (record.key for record in records)
    task = RefineSaddle(problem, 0, 1, "path", a, b, (), seed=0)
    names = {"path": path, a: records[0].object, b: records[1].object}
    return task.with_objects(names), context


class Wells:
    """Two minima of loss zero, one of them at the origin, and a saddle of loss 1 between them."""

    dimension = 2

    def loss(self, point):
        x, y = point
        return 16 * x**2 * (1 - x) ** 2 + 3 * (y - x) ** 2


def test_minima_of_loss_zero_and_at_the_origin_are_known(tmp_path):
    """The descents from a saddle end near them; a relative difference to zero is no reason to deny that."""
    wells = {"name": "objective:tests.workers.execution.test_saddle_task:Wells"}
    problem = problem_of(wells, wells, loss={"name": "outputs"}, dtype="float64")
    store = Store(open_objects(str(tmp_path)))
    context = TaskContext(load_problem(problem, Evaluation()), store, TaskProgress())
    ends = torch.tensor([[1e-13, -2e-13], [1.0, 1.0 + 1e-12]], dtype=torch.float64)
    names = {
        key: store.publish_minimum(key, context.loaded.state_dict(end))
        for key, end in zip("ab", ends, strict=True)
    }
    names["path"] = store.publish_path("path", {"points": line(*ends, 7)})
    task = RefineSaddle(problem, 0, 1, "path", "a", "b", (), seed=0).with_objects(names)
    record = refine_one_saddle(task, context)
    assert record.verdict == "saddle" and sorted(record.ends) == ["a", "b"]
    lost = replace(record, ends=("", ""))
    assert unlisted_ends([lost], [0.0, 1e-25]) == ()
    assert len(unlisted_ends([replace(lost, end_losses=(0.1, 0.1 + 1e-12))], [0.0])) == 1


def one_linear_unit():
    """Two inputs, one hidden unit without an activation, two outputs."""
    return nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(1, 2, bias=False))


def singular_pairs():
    """The two unit vectors, and their images under diag(2, 1)."""
    inputs, targets = torch.eye(2), torch.diag(torch.tensor([2.0, 1.0]))
    return inputs, targets, inputs, targets


def test_a_saddle_that_is_flat_along_a_symmetry_is_verified(tmp_path):
    """Both weights of the unit may be rescaled, so no stationary point of this loss without a ridge has
    curvature in all directions; the saddle between both signs of the minimum is proved all the same."""
    module = "tests.workers.execution.test_saddle_task"
    problem = problem_of(
        {"name": f"{module}:one_linear_unit"},
        {"name": f"{module}:singular_pairs"},
        loss={"name": "mse"},
        dtype="float64",
    )
    store = Store(open_objects(str(tmp_path)))
    context = TaskContext(load_problem(problem, Evaluation()), store, TaskProgress())
    root = 2**0.5
    points = [[root, 0, root, 0], [0.3, 1, 0.3, 1], [-0.3, 1, -0.3, 1], [-root, 0, -root, 0]]
    path = torch.tensor(points, dtype=torch.float64)
    names = {
        key: store.publish_minimum(key, context.loaded.state_dict(end))
        for key, end in zip("ab", path[[0, -1]], strict=True)
    }
    names["path"] = store.publish_path("path", {"points": path})
    task = RefineSaddle(problem, 0, 1, "path", "a", "b", (), seed=0).with_objects(names)
    record = refine_one_saddle(task, context)
    assert (record.ended, record.verdict, record.index) == ("verified", "saddle", 1)
    assert "1 explained by the rescaling of linear units, 0 unexplained" in record.reason
    assert record.loss == pytest.approx(2.0**2 / 4)


def test_a_stop_within_the_search_for_a_start_is_seen(tmp_path):
    """With exact gradients the search for an initial path may take a minute, and has no checkpoints: the task
    ends at the next evaluation, and begins again."""
    wells = {"name": "objective:tests.workers.execution.test_saddle_task:Wells"}
    problem = problem_of(wells, wells, loss={"name": "outputs"}, dtype="float64")
    store = Store(open_objects(str(tmp_path)))
    context = TaskContext(load_problem(problem, Evaluation()), store, TaskProgress())
    names = {
        key: store.publish_minimum(key, context.loaded.state_dict(torch.full((2,), value)))
        for key, value in (("a", 0.0), ("b", 1.0))
    }
    family = PathFamily(problem, PathTaskSettings(epochs=1), seed=0)
    task = OptimizePath(family, 0, 1, "a", "b").with_objects(names)
    asked = iter([False, True])
    progress = TaskProgress(lambda: next(asked), 1e9, itertools.count(0, 2.0).__next__)
    with pytest.raises(Interrupted):
        optimize_one_path(task, replace(context, progress=progress))
    assert optimize_one_path(task, context).height == pytest.approx(1.0)


@pytest.fixture(scope="module")
def refined(joined):
    """The record of the task."""
    return refine_one_saddle(*joined)


def test_a_peak_leads_to_a_stationary_point_whose_index_is_said(joined, refined):
    """The record has the gradient norm, the lowest curvatures with bounds, the index and the cost; the point
    and both descents are in its object."""
    (_, context), record = joined, refined
    assert record.peak_loss > record.loss > 0
    assert record.gradients > 0 and record.products > 0
    tensors = context.store.read_saddle(record.object)
    gradient = context.loaded.objective(60).full_gradient(tensors["point"][0])
    assert float(gradient.norm()) == pytest.approx(record.gradient_norm, abs=1e-12)
    if record.verdict == "saddle":
        assert record.gradient_norm <= record.gradient_tolerance
        assert record.eigenvalues[0] + record.eigenvalue_bounds[0] < 0 < record.eigenvalues[1]
        assert len(record.joins) == 2
        for k in (0, 1):
            losses = context.loaded.objective(60).losses(tensors[f"descent {k}"])
            assert float(losses.max()) <= record.loss * (1 + 1e-12)


def test_a_path_without_a_barrier_has_no_saddle(joined):
    """Where an end is the highest point of the path, the record says so and nothing is searched for."""
    task, context = joined
    end = context.loaded.flat(context.store.read_minimum(task.object_of(task.a)))
    name = context.store.publish_path("flat", {"points": torch.stack([end, 1.0001 * end])})
    names = dict(zip(task.depends_on, task.objects, strict=True)) | {"path": name}
    record = refine_one_saddle(task.with_objects(names), context)
    assert (record.verdict, record.object) == ("no barrier", None)
    assert record.gradients == 0


def test_a_saddle_at_the_top_of_a_path_joins_what_the_path_joins(joined, refined):
    """A path that follows both descents of a saddle is nowhere higher than it: it joins its own ends over it,
    also where the minima at which the descents end are not those of the task."""
    task, context = joined
    assert refined.verdict == "saddle"
    tensors = context.store.read_saddle(refined.object)
    first, second = tensors["descent 0"], tensors["descent 1"]
    path = context.store.publish_path("over", {"points": torch.cat([first.flip(0), second[1:]])})
    names = dict(zip(task.depends_on, task.objects, strict=True)) | {"path": path}
    over = refine_one_saddle(task.with_objects(names), context)
    assert over.ended == "verified" and over.loss == pytest.approx(refined.loss, rel=1e-9)
    assert over.rounds <= 2 and set(over.joins) == {task.a, task.b}


@pytest.fixture
def short(monkeypatch):
    """Three rounds of few steps each."""
    monkeypatch.setattr(
        "workers.execution.saddle_task.PassRefinement",
        lambda rounds: PassRefinement(
            rounds=3, epochs=3, blocks=1, search=SaddleSettings(steps=2, descent_steps=2)
        ),
    )


@pytest.mark.usefixtures("short")
def test_an_interrupted_refinement_gives_the_same_bits(joined, tmp_path):
    """Stopped at every checkpoint, a task publishes the same record and the same bytes."""
    task, context = joined
    record, stops = check_interruptions(refine_one_saddle, task, context, tmp_path / "broken")
    assert stops == 2 and record.rounds == 3


@pytest.mark.usefixtures("short")
def test_a_stop_within_a_round_gives_the_same_bits(joined, tmp_path):
    """A round takes minutes on large networks; the task ends at the next evaluation and begins it again."""
    task, context = joined
    check_stops_within_steps(refine_one_saddle, task, context, tmp_path / "broken", [3, 30])


def test_large_problems_are_not_looked_at(joined, monkeypatch):
    """Above the limit of exact gradients nothing is measured, not even the path."""
    monkeypatch.setattr(stationarity, "LARGEST", 1000)
    task, context = joined
    record = refine_one_saddle(task.with_objects({}), context)
    assert (record.verdict, record.ended, record.object) == ("too large", "too large", None)


def test_the_record_describes_the_path_that_was_led_over_the_saddle(joined, refined):
    """Its height is that of the points in the object, not above that of the path before, and the loss of the
    saddle where the path is verified; all saddles that were met are there with the ends of their descents."""
    (task, context), record = joined, refined
    tensors, objective = context.store.read_saddle(record.object), context.loaded.objective(60)
    assert loss_profile(objective, tensors["points"]).maximum == record.height <= record.peak_loss
    before = context.store.read_path(task.object_of("path"))["points"]
    assert torch.equal(tensors["points"][[0, -1]], before[[0, -1]].double())
    assert len(record.end_losses) == len(record.ends) == 2 * len(record.saddle_losses)
    losses = objective.losses(tensors["saddles"]).tolist()
    assert losses == pytest.approx(list(record.saddle_losses), rel=1e-12)
    if record.ended == "verified":
        assert set(record.joins) == {task.a, task.b}
        assert record.height == pytest.approx(record.loss, rel=1e-6)
