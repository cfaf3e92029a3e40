"""Pairs in packs: on a CPU bits do not depend on company; together, heights do not, and nothing is lost."""

import itertools
from dataclasses import replace

import pytest
import torch

from tests.helpers import results
from tests.helpers.interruptions import killed_when
from tests.helpers.problems import problem_of
from topo_core.paths.solver import PathSolver
from topo_core.paths.starts import trained_curves as curves
from topo_core.paths.update_settings import OptimizerSettings
from workers.execution import path_starts
from workers.execution.path_task import PathRun
from workers.execution.progress import Interrupted, TaskProgress
from workers.execution.task_run import TaskContext
from workers.execution.training import begin, train_until
from workers.execution.worker import Worker, WorkerContext
from workers.problems.evaluation import Evaluation
from workers.problems.loaded_problem import load_problem
from workers.storage.objects import StoreUnreachable
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store
from workers.storage.schema import MinimumRecord, PairRecord
from workers.tasks.minimum_settings import MinimumSettings
from workers.tasks.path_tasks import OptimizePath, PathFamily, PathTaskSettings
from workers.tasks.results import Done, Failed, FailureKind

PROBLEM = problem_of({"name": "fc", "hidden": [8]}, {"name": "digits", "subset": 200})
WORK = PathTaskSettings(
    points=6,
    epochs=4,
    batch_size=64,
    bezier_epochs=2,
    evaluate_every=2,
    heights="paper",
    optimizer=OptimizerSettings("adam", lr=0.01),
)
MINIMA = 4
OBJECTS: dict[str, str] = {}
"""Names of the objects of the minima, by key."""


@pytest.fixture(scope="module")
def points():
    """Trained, so that there is something between them that paths have to go down."""
    loaded = load_problem(PROBLEM, Evaluation())
    settings = MinimumSettings(epochs=100, optimizer=OptimizerSettings("adam", lr=0.01))
    objective = loaded.objective(settings.batch_size)
    found = {}
    for i in range(MINIMA):
        state = begin(settings, loaded.initial_point(i))
        state = train_until(objective, state, settings, i, epoch=settings.epochs)
        found[f"minimum{i}"] = loaded.state_dict(state.point[0])
    return found


def worker_on(folder, points, paths_at_once=1, stopping=lambda: False):
    """A worker, and its store, which holds the ends of the paths."""
    store = Store(open_objects(str(folder)))
    for key, state in points.items():
        OBJECTS[key] = store.publish_minimum(key, state)
    evaluation = Evaluation(strategy="linear", paths_at_once=paths_at_once)
    context = WorkerContext(str(folder), 1, evaluation, checkpoint_seconds=0.0)
    return Worker(context, "worker", stopping), store, folder


@pytest.fixture
def run(tmp_path, points):
    """Makes workers, each in a new folder unless one is given."""
    made = itertools.count()

    def make(paths_at_once=1, stopping=lambda: False, folder=None):
        return worker_on(folder or tmp_path / str(next(made)), points, paths_at_once, stopping)

    return make


def pairs(work=WORK):
    family = PathFamily(PROBLEM, work, seed=1)
    return [
        OptimizePath(family, i, j, f"minimum{i}", f"minimum{j}").with_objects(OBJECTS)
        for i, j in itertools.combinations(range(MINIMA), 2)
    ]


def records(store):
    return {record.key: record for record in store.records(PairRecord)}


def assert_close(found, expected):
    """Records of the same paths, computed in another company."""
    assert found.keys() == expected.keys()
    for key, record in expected.items():
        assert found[key].height == pytest.approx(record.height, rel=1e-3)
        assert found[key].epochs == record.epochs
        assert found[key].gradient_evaluations == record.gradient_evaluations
        assert [row["epoch"] for row in found[key].history] == [
            row["epoch"] for row in record.history
        ]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, points):
    """The records and the bits of all pairs, each in a pack of its own."""
    worker, store, folder = worker_on(tmp_path_factory.mktemp("alone"), points)
    for task in pairs():
        (result,) = worker.run([task])
        record = records(store)[task.key]
        assert result == Done(task.key, record.height, record.object, result.segment)
    return records(store), results.bits(folder)


def test_bits_do_not_depend_on_the_pack(run, alone):
    """On a CPU a pair has the same bits in packs of 1 and 3, in any order."""
    tasks = pairs()
    for packs in ([tasks[:3], tasks[3:]], [tasks[::-1]], [tasks[1::2], tasks[::2]]):
        worker, _, folder = run()
        for pack in packs:
            worker.run(pack)
        assert results.bits(folder) == alone[1]


@pytest.mark.parametrize("paths_at_once", [2, 64])
def test_together_heights_are_those_of_one_by_one(run, alone, paths_at_once):
    """In float32 paths that are walked together have the heights of those walked alone."""
    worker, store, _ = run(paths_at_once)
    told = worker.run(pairs())
    assert [result.key for result in told] == [task.key for task in pairs()]
    assert all(isinstance(result, Done) for result in told)
    assert_close(records(store), alone[0])
    assert not list((store.objects._folder / "checkpoints").glob("*/*"))


def test_other_tasks_of_a_pack_are_carried_out_too(run):
    """Paths of other settings form a group of their own; results come in the order of the pack."""
    longer = pairs(replace(WORK, epochs=5))
    mixed = [task for both in zip(pairs()[:3], longer[:3], strict=True) for task in both]
    worker, store, _ = run(64)
    told = worker.run(mixed)
    assert [result.key for result in told] == [task.key for task in mixed]
    assert {records(store)[task.key].epochs for task in longer[:3]} == {5}


def test_out_of_memory_halves_the_pack(run, alone, monkeypatch):
    """Where so many paths do not fit, half of them go first, and every pair is done."""
    sizes = []

    together = PathSolver.advance_together

    def crowded(solver, states, *rest, **keywords):
        sizes.append(len(states))
        if len(states) > 2:
            raise torch.OutOfMemoryError("the device is full")
        return together(solver, states, *rest, **keywords)

    monkeypatch.setattr(PathSolver, "advance_together", crowded)
    worker, store, _ = run(64)
    assert all(isinstance(result, Done) for result in worker.run(pairs()))
    assert sizes[:5] == [6, 3, 1, 1, 1] and set(sizes[5:]) == {1}
    assert_close(records(store), alone[0])


def test_one_that_fits_nowhere_fails_alone(run, monkeypatch):
    """A path for which there is no memory even alone is out of memory; the others are done."""
    tasks = pairs()
    start = Store.read_minimum

    together = PathSolver.advance_together

    def full(solver, states, *rest, **keywords):
        if any(bool((state.points[-1] == bad).all()) for state in states):
            raise torch.OutOfMemoryError("the device is full")
        return together(solver, states, *rest, **keywords)

    monkeypatch.setattr(PathSolver, "advance_together", full)
    worker, store, _ = run(64)
    loaded = load_problem(PROBLEM, Evaluation())
    bad = loaded.flat(start(store, OBJECTS["minimum3"]))
    told = {result.key: result for result in worker.run(tasks)}
    for task in tasks:
        if task.b == "minimum3":
            assert told[task.key].kind is FailureKind.OUT_OF_MEMORY
        else:
            assert isinstance(told[task.key], Done)


def test_a_path_that_diverges_harms_no_other(run, alone, points, monkeypatch):
    """A minimum without finite loss makes its own paths fail, by their reason, and no others."""
    worker, store, _ = run(64)
    broken = {name: torch.full_like(rows, 1e30) for name, rows in points["minimum3"].items()}
    monkeypatch.setitem(OBJECTS, "minimum3", store.publish_minimum("minimum3", broken))
    told = {result.key: result for result in worker.run(pairs())}
    good = {task.key for task in pairs() if task.b != "minimum3"}
    assert {key for key, result in told.items() if isinstance(result, Done)} == good
    assert {r.kind for r in told.values() if isinstance(r, Failed)} == {FailureKind.DIVERGED}
    assert_close(records(store), {key: alone[0][key] for key in good})


def test_a_missing_minimum_harms_no_other(run):
    """Paths whose end cannot be read are damaged; the others are done."""
    worker, _, folder = run(64)
    for file in (folder / "minima").glob("minimum0*"):
        file.unlink()
    told = {result.key: result for result in worker.run(pairs())}
    for task in pairs():
        if task.a == "minimum0":
            assert told[task.key].kind is FailureKind.DAMAGED
        else:
            assert isinstance(told[task.key], Done)


def test_a_bug_is_told_of_the_path_that_has_it(run, monkeypatch):
    """What raises in company is looked for alone, and the others are done."""
    tasks = pairs()

    together = PathSolver.advance_together

    def buggy(solver, states, seeds, **keywords):
        if wrong in seeds:
            raise RuntimeError("no such kernel")
        return together(solver, states, seeds, **keywords)

    monkeypatch.setattr(PathSolver, "advance_together", buggy)
    worker, store, _ = run(64)
    wrong = PathRun(
        tasks[2], TaskContext(load_problem(PROBLEM, Evaluation()), store, TaskProgress())
    ).seed
    told = worker.run(tasks)
    assert [isinstance(result, Done) for result in told] == [i != 2 for i in range(len(tasks))]
    assert told[2].kind is FailureKind.BUG and "no such kernel" in told[2].details


@pytest.mark.parametrize("error", [RuntimeError("no such kernel"), torch.OutOfMemoryError("full")])
def test_an_error_in_shared_training_of_curves_is_that_of_one_path(run, monkeypatch, error):
    """Curves are then trained one by one; only the one that still raises the error has failed."""
    worker, store, _ = run(64)
    tasks, wrong = pairs(replace(WORK, bezier_epochs=6)), []

    def buggy(objective, states, resolved, seeds, *, every):
        if len(seeds) > 1 or seeds == wrong:
            raise error
        return curves.train_curves(objective, states, resolved, seeds, every=every)

    monkeypatch.setattr(path_starts, "train_curves", buggy)
    context = TaskContext(load_problem(PROBLEM, Evaluation()), store, TaskProgress())
    wrong.append(PathRun(tasks[2], context).seed)
    told = worker.run(tasks)
    assert [isinstance(result, Done) for result in told] == [i != 2 for i in range(len(tasks))]
    assert str(error) in told[2].reason + told[2].details


def test_interrupted_in_company_and_gone_on(run, alone):
    """Stopped half-way, every path continues from its checkpoint, and no finished path is optimised again."""
    asked = itertools.count()
    # Asked after each epoch: two of the short path, then two of six paths together.
    worker, store, folder = run(64, stopping=lambda: next(asked) >= 3)
    short = pairs(replace(WORK, epochs=2))[:1]
    with pytest.raises(Interrupted):
        worker.run([*short, *pairs()])
    assert set(records(store)) == {short[0].key}
    for task in pairs():
        assert store.latest_checkpoint(task.key).epoch == 2
    again, store, _ = run(64, folder=folder)
    assert all(isinstance(result, Done) for result in again.run(pairs()))
    del_short = {k: v for k, v in records(store).items() if k != short[0].key}
    assert_close(del_short, alone[0])


@pytest.mark.parametrize(("paths_at_once", "started_anew"), [(1, 5), (64, 0)])
def test_curves_are_gone_on_with(run, monkeypatch, paths_at_once, started_anew):
    """Stopped while curves are trained: they go on from their checkpoints, and end as if never stopped."""
    tasks = pairs(replace(WORK, bezier_epochs=20))
    whole, store, uninterrupted = run(paths_at_once)
    whole.run(tasks)
    expected = records(store)
    asked = itertools.count()
    worker, store, folder = run(paths_at_once, stopping=lambda: next(asked) >= 1)
    with pytest.raises(Interrupted):
        worker.run(tasks)
    kept = [store.latest_checkpoint(task.key) for task in tasks]
    assert [point.scalars["passes"] for point in kept if point] == (
        [8] if paths_at_once == 1 else [8] * 6
    )
    begun = []

    def counted(*ends):
        begun.append(1)
        return curves.begin_curve(*ends)

    monkeypatch.setattr(path_starts, "begin_curve", counted)
    again, store, _ = run(paths_at_once, folder=folder)
    assert all(isinstance(result, Done) for result in again.run(tasks))
    assert len(begun) == started_anew
    assert_close(records(store), expected)
    assert not list((folder / "checkpoints").glob("*/*"))
    if paths_at_once == 1:
        assert results.bits(folder) == results.bits(uninterrupted)


@pytest.mark.parametrize("paths_at_once", [1, 64])
def test_a_curve_in_place_of_paths_that_are_not_there_yet(run, monkeypatch, paths_at_once):
    """`through` without finished paths trains curves, and reports their progress even with 0 epochs."""
    shares, share = [], TaskProgress.share

    def reported(self, key, done):
        shares.append(done)
        share(self, key, done)

    monkeypatch.setattr(TaskProgress, "share", reported)
    worker, _, _ = run(paths_at_once)
    work = replace(WORK, start="through", bezier_epochs=6, epochs=0)
    assert all(isinstance(result, Done) for result in worker.run(pairs(work)))
    assert max(shares) == pytest.approx(4 / 6)


def test_curves_together_do_not_need_to_be_kept(run, monkeypatch):
    """Where the store is away while curves are trained, and back for their paths, nothing is lost."""
    missed = []

    def away(self, curve):
        missed.append(curve.passes)
        raise StoreUnreachable("the store is away")

    monkeypatch.setattr(PathRun, "keep_curve", away)
    worker, store, _ = run(64)
    tasks = pairs(replace(WORK, bezier_epochs=6))
    assert all(isinstance(result, Done) for result in worker.run(tasks))
    assert missed == [4] * 6 and len(records(store)) == 6


def test_goes_on_from_checkpoints_at_different_epochs(run, alone):
    """A worker that died left some pairs further than others; together they end as they would have."""
    tasks = pairs()
    asked = itertools.count()
    worker, store, folder = run(1, stopping=lambda: next(asked) >= 1)
    with pytest.raises(Interrupted):  # the first pair alone gets as far as a checkpoint
        worker.run(tasks[:1])
    assert store.latest_checkpoint(tasks[0].key).epoch == 2
    again, store, _ = run(64, folder=folder)
    assert all(isinstance(result, Done) for result in again.run(tasks))
    assert_close(records(store), alone[0])


@pytest.mark.parametrize("paths_at_once", [1, 64])
def test_a_worker_that_dies_before_it_publishes_loses_no_path(run, alone, paths_at_once):
    """Paths end within moments of each other; until their records are there, so are their checkpoints."""

    worker, store, folder = run(paths_at_once)
    with killed_when(lambda: True):
        worker.run(pairs())
    assert not records(store)
    for task in pairs():
        assert store.latest_checkpoint(task.key).epoch == 3
    again, store, _ = run(paths_at_once, folder=folder)
    assert all(isinstance(result, Done) for result in again.run(pairs()))
    assert again.counters()["path_epochs"] == 6 * (WORK.epochs - 3)
    assert_close(records(store), alone[0])
    assert not list((folder / "checkpoints").glob("*/*"))


def test_what_could_not_be_published_can_go_on(run, monkeypatch):
    """Where the store is away at the end, paths are not done and their checkpoints stay."""

    def away(self, records, *, term, worker):
        raise StoreUnreachable("the store is away")

    worker, store, _ = run(64)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "publish_segment", away)
        told = worker.run(pairs())
    assert {result.kind for result in told} == {FailureKind.STORE}
    assert all(store.latest_checkpoint(task.key).epoch == 3 for task in pairs())
    assert all(isinstance(result, Done) for result in worker.run(pairs()))


def test_progress_tells_of_every_path(run, monkeypatch):
    """While paths are walked together each of them has its own share done."""
    seen = []
    worker, _, _ = run(64, stopping=lambda: seen.append(worker.progress()) or False)
    worker.run(pairs())
    assert set(seen[-1]) == {task.key for task in pairs()}
    assert worker.progress() == {}
    assert worker.counters()["path_epochs"] == 6 * WORK.epochs


def test_minima_are_not_in_question(run):
    """The ends are read and not written: no record of a minimum appears."""
    worker, store, _ = run(64)
    worker.run(pairs()[:2])
    assert store.records(MinimumRecord) == []
