"""What the ResNet study of the paper costs on this device: path-epochs per second, and hours in all.

    python -m tests.benchmarks.fig5                          # fig5-cifar10, on the GPU if there is one
    python -m tests.benchmarks.fig5 fig5-svhn --batches 50

The network, minibatch, points and settings are the study's, at full scale; the images are random, of
CIFAR10's shape, since the work of a step does not depend on what is in them. So many minibatches of
steps are timed and scaled to the study's epochs. Not counted: points that insertion adds, reading and
writing the store.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from orchestrator.planning.plan import Identity, Plan
from orchestrator.studies.cost import PROFILE_POINTS
from orchestrator.studies.study import load_study
from tests.benchmarks.speed import machine
from tests.benchmarks.workloads import ENDLESS, Unmeasured, endless
from topo_core.paths.solver import PathSolver
from workers.execution.strategy_probe import choose_evaluation
from workers.execution.training import begin, train_until
from workers.problems.data_sets import sizes
from workers.problems.dataset import Dataset
from workers.problems.evaluation import Evaluation, prepare_process
from workers.problems.loaded_problem import LoadedProblem, load_problem

REPEATS = 5
TEST_IMAGES = 10


def main(arguments: Sequence[str] = ()) -> float:
    """Print one line of a table for each training type; path-epochs per second of the first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("study", nargs="?", default="fig5-cifar10")
    parser.add_argument("--batches", type=int, default=20, help="minibatches that are timed")
    options = parser.parse_args(arguments)
    print(f"{machine()}, {_device_name()}\n")
    print("| run | strategy | path-epochs/s | s a minimum | s a path | hours in all |")
    print("|---|---|---|---|---|---|")
    rates = []
    for cell in load_study(f"study:{options.study}", ["scale=full", "matrix.seed=[0]"]).cells:
        plan = Plan(cell.run, Identity("", ""))
        rates.append(_row(plan, options.batches))
    return rates[0]


def _row(plan: Plan, batches: int) -> float:
    run, settings = plan.run, plan.path_settings
    examples = sizes(run.data).train
    loaded = _loaded(plan, settings.batch_size * batches)
    path = _median(_path_epoch(loaded, plan)) / batches * -(-examples // settings.batch_size)
    measured = _median(_dense(loaded, plan)) * examples / len(loaded.data.train_inputs)
    epochs = settings.resolve(-(-examples // settings.batch_size)).epochs
    per_path = path * epochs + measured * (epochs // settings.evaluate_every + 1)
    (training,) = set(run.minima.trainings)
    in_an_epoch = loaded.objective(training.batch_size).batches
    train = _median(_training_epoch(loaded, plan)) / in_an_epoch
    per_minimum = train * -(-examples // training.batch_size) * training.epochs
    hours = (plan.pair_count * per_path + run.minima.total * per_minimum) / 3600
    print(
        f"| {run.name} | {loaded.evaluation.strategy} | {1 / path:.3g} | {per_minimum:.0f} "
        f"| {per_path:.0f} | {hours:.3g} |",
        flush=True,
    )
    return 1 / path


def _loaded(plan: Plan, images: int) -> LoadedProblem:
    """Random images of the study's shape, on the device and with the strategy that a run would take."""
    found = sizes(plan.run.data)
    draw = torch.Generator().manual_seed(0)
    total = images + TEST_IMAGES
    x = torch.randn(total, *found.input_shape, generator=draw)
    y = torch.randint(found.classes, (total,), generator=draw)
    data = Dataset(x[:images], y[:images], x[images:], y[images:], found.classes)
    first = load_problem(plan.problem, Evaluation(), data)
    evaluation = choose_evaluation(first, plan.path_settings).evaluation
    prepare_process(evaluation)
    return load_problem(plan.problem, evaluation, data)


def _path_epoch(loaded: LoadedProblem, plan: Plan) -> Callable[[], None]:
    """One epoch of a path on the loaded images: gradients, projection, displacement."""
    objective = loaded.objective(plan.path_settings.batch_size)
    settings = replace(plan.path_settings, epochs=ENDLESS, evaluate_every=ENDLESS, insertion=None)
    ends = [loaded.initial_point(seed) for seed in (0, 1)]
    alphas = torch.linspace(0, 1, settings.points, device=ends[0].device)[:, None]
    points = torch.lerp(ends[0], ends[1], alphas)
    state = [endless(PathSolver(Unmeasured(objective), settings).begin(points))]

    def epoch() -> None:
        state[0] = PathSolver(objective, settings).advance(
            state[0], 0, until_epoch=state[0].epoch + 1
        )

    return epoch


def _dense(loaded: LoadedProblem, plan: Plan) -> Callable[[], object]:
    """A measurement of the height: the grid of each segment before its bisection."""
    objective = loaded.objective(plan.path_settings.batch_size)
    points = plan.path_settings.points * PROFILE_POINTS
    rows = loaded.initial_point(0).expand(points, -1).contiguous()
    return lambda: objective.losses(rows)


def _training_epoch(loaded: LoadedProblem, plan: Plan) -> Callable[[], None]:
    (training,) = set(plan.run.minima.trainings)
    objective = loaded.objective(training.batch_size)
    state = [begin(training, loaded.initial_point(0))]

    def epoch() -> None:
        state[0] = train_until(objective, state[0], training, 0, epoch=state[0].epoch + 1)

    return epoch


def _median(work: Callable[[], object]) -> float:
    """Seconds of wall time, the first call not counted."""
    times = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def _device_name() -> str:
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"


if __name__ == "__main__":
    main(sys.argv[1:])
