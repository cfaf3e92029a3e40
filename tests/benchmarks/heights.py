"""Heights of paths at equal numbers of gradients: the methods of the field and our default.

    python -m tests.benchmarks.heights fc               # 3 seeds x 3 pairs of 784-32-32-10 on mnist5k
    python -m tests.benchmarks.heights cnn noisy        # CNN-2-8, and FC with half of the labels random
    python -m tests.benchmarks.heights fc seed=10 budget=250 into=rows.jsonl   # in pieces
    python -m tests.benchmarks.heights rows.jsonl       # the table of rows measured before
    python -m tests.benchmarks.heights barriers         # losses with barriers, see `barriers`

The budget is counted in gradients of a point on a minibatch, in units of one epoch of 17 points. Every
method has the whole budget and its own optimiser, at the rate that was best on other minima than those
measured here (seed 100; docs/performance.md has the trials). Heights are adaptive dense maxima over
the whole training set of the best path seen. `a third` is our default with a third of the budget,
annealed within it.
"""

import itertools
import json
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from tests.benchmarks import barriers
from tests.benchmarks.garipov import trained_curve
from topo_core.objectives.flat_parameters import ParameterLayout
from topo_core.objectives.network_loss import ModuleObjective
from topo_core.paths.insertion_settings import Insertion
from topo_core.paths.optimize import optimize_path
from topo_core.paths.profiles import loss_profile
from topo_core.paths.schedules import Schedule
from topo_core.paths.settings import PathSettings
from topo_core.paths.update_settings import OptimizerSettings
from workers.execution.training import begin, train_until
from workers.problems.data_sets import load_dataset
from workers.problems.evaluation import Evaluation, prepare_process
from workers.problems.networks import build
from workers.tasks.minimum_settings import MinimumSettings
from workers.tasks.specs import DataSpec, NetworkSpec

MOVING = 17
SEEDS, MINIMA = (10, 11, 12), 3  # three pairs a seed; rates were chosen on seed 100
CURVE_POINTS = 37  # of the polygon as which a curve alone is measured
CURVE_UNITS = 12  # of our default's: as many as its curve has in a run file that says nothing


@dataclass(frozen=True)
class Rates:
    """The learning rate of each method that is not ours; our default has its own everywhere."""

    paper: float
    string: float
    curve: float
    springs: float


@dataclass(frozen=True)
class Regime:
    """A network on data, how its minima are trained, and the budget of a path in units."""

    title: str
    network: dict[str, object]
    data: dict[str, object]
    epochs: int
    units: int
    rates: Rates
    batch_size: int = 256
    strategy: str | None = None


REGIMES = {
    "fc": Regime(
        "FC 784-32-32-10",
        {"name": "fc"},
        {"name": "mnist5k"},
        150,
        24,
        Rates(paper=0.05, string=0.2, curve=0.1, springs=0.03),
    ),
    "cnn": Regime(
        "CNN-2-8 on 600 digits",
        {"name": "cnn2", "channels": 8},
        {"name": "mnist5k", "subset": 600},
        60,
        4,
        Rates(paper=0.01, string=0.2, curve=0.03, springs=0.01),
        batch_size=64,
        strategy="channels_last",
    ),
    "noisy": Regime(
        "FC 784-32-32-10, half of the labels random",
        {"name": "fc"},
        {"name": "mnist5k", "label_noise": 0.5},
        200,
        12,
        Rates(paper=0.05, string=0.2, curve=0.1, springs=0.03),
    ),
}


class PathResult(NamedTuple):
    """Height of the path of a method, and number of gradients evaluated."""

    height: float
    gradients: int


@dataclass(frozen=True)
class Task:
    """A pair of minima and the budget of a path between them, in units of one epoch of 17 points."""

    objective: ModuleObjective
    start: Tensor
    end: Tensor
    units: float
    rates: Rates
    seed: int

    def path(self, settings: PathSettings) -> PathResult:
        """The path optimised with ``settings``. Only the initial and the last path are measured."""
        settings = replace(settings, evaluate_every=10**6, l2=1e-5)
        path = optimize_path(self.objective, self.start, self.end, settings, seed=self.seed)
        return PathResult(path.profile.maximum, path.gradient_evaluations)


def paper(task: Task) -> PathResult:
    """Algorithm 2 on the straight line, at a constant rate."""
    rate = OptimizerSettings("sgd", lr=task.rates.paper)
    return task.path(PathSettings(force="paper", optimizer=rate, epochs=round(task.units)))


def string(task: Task) -> PathResult:
    """The string method: redistribution, and a final annealing."""
    rate = OptimizerSettings("sgd", lr=task.rates.string)
    return task.path(PathSettings(start="line", optimizer=rate, epochs=round(task.units)))


def curve_alone(task: Task) -> PathResult:
    """Garipov et al.: the quadratic curve and nothing else, with momentum as published."""
    settings = PathSettings(points=CURVE_POINTS, bezier_epochs=round(task.units * MOVING), l2=1e-5)
    points, spent = trained_curve(
        task.objective, task.start, task.end, settings, task.rates.curve, task.seed
    )
    return PathResult(loss_profile(task.objective, points).maximum, spent)


def springs(task: Task) -> PathResult:
    """AutoNEB: springs, momentum, growing where the loss between two points rises above them.

    How many gradients a number of epochs takes depends on when points come, so it is run again
    with a number that spends the budget to within a twentieth.
    """
    budget = task.units * MOVING * task.objective.batches
    epochs, result = round(task.units * MOVING / 15), PathResult(math.inf, 0)
    for _ in range(3):
        result = task.path(
            PathSettings(
                start="line",
                force="spring",
                optimizer=OptimizerSettings("momentum", lr=task.rates.springs),
                points=11,
                insertion=Insertion(
                    every=max(1, round(task.units / 5)), criterion="residual", max_points=37
                ),
                schedule=Schedule("anneal"),
                epochs=epochs,
            )
        )
        better = max(1, round(epochs * budget / result.gradients))
        if better == epochs or abs(result.gradients / budget - 1) < 0.05:
            break
        epochs = better
    return result


def default(task: Task) -> PathResult:
    """Ours: the curve first, and what is left of the budget for the path, if that is not done."""
    curve = min(task.units, CURVE_UNITS)
    return task.path(
        PathSettings(bezier_epochs=max(1, round(curve * MOVING)), epochs=round(task.units - curve))
    )


def third(task: Task) -> PathResult:
    """Ours with a third of the budget."""
    return default(replace(task, units=task.units / 3))


METHODS: dict[str, Callable[[Task], PathResult]] = {
    "paper's recipe, from the line": paper,
    "SGD with redistribution, annealed": string,
    "Bézier alone": curve_alone,
    "springs, insertion by residual": springs,
    "our default": default,
    "a third": third,
}


def minima(regime: Regime, seed: int) -> tuple[ModuleObjective, list[Tensor]]:
    """The loss in the minibatches of paths, and points [d] trained on half as large ones."""
    data = load_dataset(DataSpec.parse(regime.data))
    spec = NetworkSpec.parse(regime.network)
    module = build(spec, data.input_shape, data.classes)
    layout = ParameterLayout.of(module)
    objectives = [
        ModuleObjective(
            module,
            data.train_inputs,
            data.train_targets,
            batch_size=size,
            strategy=regime.strategy,
        )
        for size in (regime.batch_size // 2, regime.batch_size)
    ]
    settings = MinimumSettings(epochs=regime.epochs, batch_size=regime.batch_size // 2)
    points = []
    for index in range(MINIMA):
        start = build(spec, data.input_shape, data.classes, 1000 * seed + index)
        state = begin(settings, layout.flatten(dict(start.named_parameters())))
        state = train_until(objectives[0], state, settings, 100 * seed + index, epoch=10**6)
        points.append(state.point[0])
    return objectives[1], points


def measure(
    name: str, seed: int, done: Collection[tuple[str, int, str, str]] = (), until: float = math.inf
) -> Iterator[dict[str, object]]:
    """A row for each method and pair of one seed, as they come.

    What is in ``done`` is left out, and nothing is begun after ``until`` on the wall clock.
    """
    regime = REGIMES[name]
    pairs = list(itertools.combinations(range(MINIMA), 2))
    wanted = [
        (pair, method)
        for pair in pairs
        for method in METHODS
        if (name, seed, str(list(pair)), method) not in done
    ]
    if not wanted or time.time() > until:
        return
    objective, points = minima(regime, seed)
    births = objective.losses(torch.stack(points)).tolist()
    for (i, j), method in wanted:
        if time.time() > until:
            return
        task = Task(objective, points[i], points[j], regime.units, regime.rates, seed)
        started = time.process_time()
        result = METHODS[method](task)
        yield {
            "regime": name,
            "seed": seed,
            "pair": [i, j],
            "method": method,
            "height": result.height,
            "birth": max(births[i], births[j]),
            "units": result.gradients / MOVING / objective.batches,
            "seconds": time.process_time() - started,
        }


OURS = ("our default", "a third")


def table(rows: list[dict[str, object]]) -> dict[str, float]:
    """Print medians and worst pairs, of the pairs that were measured with all methods.

    Returns the median of our default over that of the best other, by regime.
    """
    ratios = {}
    done = Counter((row["regime"], row["seed"], str(row["pair"])) for row in rows)
    rows = [r for r in rows if done[r["regime"], r["seed"], str(r["pair"])] == len(METHODS)]
    for name in dict.fromkeys(str(row["regime"]) for row in rows):
        mine = [row for row in rows if row["regime"] == name]
        births = statistics.median(float(row["birth"]) for row in mine)  # type: ignore[arg-type]
        heights = {m: [float(r["height"]) for r in mine if r["method"] == m] for m in METHODS}  # type: ignore[arg-type]
        used = {m: [float(r["units"]) for r in mine if r["method"] == m] for m in METHODS}  # type: ignore[arg-type]
        print(
            f"\n{REGIMES[name].title}, {len(heights['our default'])} pairs, higher minimum {births:.3g}\n"
        )
        # No path is below its higher end, so what a method could still gain is what lies above that.
        above = {
            m: [float(r["height"]) - float(r["birth"]) for r in mine if r["method"] == m]  # type: ignore[arg-type]
            for m in METHODS
        }
        print("| method | units | median | worst | best | median above the higher minimum |")
        print("|---|---|---|---|---|---|")
        for method, reached in heights.items():
            print(
                f"| {method} | {statistics.mean(used[method]):.1f} | {statistics.median(reached):.4g} "
                f"| {max(reached):.4g} | {min(reached):.4g} | {statistics.median(above[method]):.2g} |"
            )
        others = {m: statistics.median(h) for m, h in heights.items() if m not in OURS}
        best = min(others, key=lambda m: others[m])
        own = heights["our default"]
        ratios[name] = statistics.median(own) / others[best]
        print(
            f"\nMedian over that of the best other ({best}): "
            f"{ratios[name]:.3f}; worst over own median: "
            f"{max(own) / statistics.median(own):.2f}; with a third of the budget over the best "
            f"other: {statistics.median(heights['a third']) / others[best]:.3f}."
        )
    return ratios


def main(arguments: list[str]) -> dict[str, float]:
    """Measure regimes (and `seed=N` alone), or print the table of files of earlier rows.

    `into=FILE` keeps rows and goes on where it stopped; `budget=S` begins nothing after S seconds.
    """
    prepare_process(Evaluation())
    if "barriers" in arguments:
        barriers.main(dict(a.split("=", 1) for a in arguments if "=" in a))
        return {}
    options = dict(a.split("=", 1) for a in arguments if "=" in a)
    files = [Path(a) for a in arguments if a.endswith(".jsonl") and "=" not in a]
    into = Path(options["into"]) if "into" in options else None
    until = time.time() + float(options.get("budget", "inf"))
    rows = [
        json.loads(line)
        for f in [*files, *([into] if into and into.exists() else [])]
        for line in f.read_text().splitlines()
        if line[:1] == "{"
    ]
    done = {(r["regime"], r["seed"], str(r["pair"]), r["method"]) for r in rows}
    seeds = [int(options["seed"])] if "seed" in options else SEEDS
    for name in [a for a in arguments if a in REGIMES] or ([] if files else ["fc"]):
        for seed in seeds:
            for row in measure(name, seed, done, until):
                line = json.dumps(row, ensure_ascii=False)
                print(line, file=sys.stderr, flush=True)
                if into is not None:
                    with into.open("a") as sink:
                        sink.write(line + "\n")
                rows.append(row)
    return table(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
