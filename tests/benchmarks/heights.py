"""Heights of paths at equal numbers of gradients: the methods of the field and our default.

    python -m tests.benchmarks.heights fc               # 3 seeds x 3 pairs of 784-32-32-10 on mnist5k
    python -m tests.benchmarks.heights cnn noisy        # CNN-2-8, and FC with half of the labels random

The budget is counted in gradients of a point on a minibatch, in units of one epoch of 17 points. Every
method has the whole budget, with its own optimiser: the published one, or SGD at 0.05, which was not
tuned here. Heights are adaptive dense maxima over the whole training set of the best path seen. `a third`
is our default with a third of the budget, annealed within it.
"""

import itertools
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from topo_core.insertion import Insertion
from topo_core.optimize import PathSettings, optimize_path
from topo_core.optimizers import OptimizerSettings
from topo_core.schedule import Schedule
from topo_core.stacked import ModuleObjective
from topo_core.strategies.parameters import ParameterLayout
from workers.data import load_dataset
from workers.evaluation import Evaluation, prepare
from workers.networks import build
from workers.specs import DataSpec, NetworkSpec
from workers.train import MinimumSettings, begin, train_until

MOVING = 17
SEEDS, MINIMA = (0, 1, 2), 3  # three pairs a seed


@dataclass(frozen=True)
class Regime:
    """A network on data, how its minima are trained, and the budget of a path in units."""

    title: str
    network: dict[str, object]
    data: dict[str, object]
    epochs: int
    units: int


REGIMES = {
    "fc": Regime("FC 784-32-32-10", {"name": "fc"}, {"name": "mnist5k"}, 150, 24),
    "cnn": Regime("CNN-2-8", {"name": "cnn2", "channels": 8}, {"name": "mnist5k"}, 20, 12),
    "noisy": Regime(
        "FC 784-32-32-10, half of the labels random",
        {"name": "fc"},
        {"name": "mnist5k", "label_noise": 0.5},
        200,
        24,
    ),
}


def default(units: float) -> PathSettings:
    """Ours: the trained curve and the path have half of the budget each."""
    return PathSettings(
        bezier_epochs=max(1, round(units * MOVING / 4 / 2)), epochs=max(2, round(units / 2))
    )


METHODS: dict[str, Callable[[int], PathSettings]] = {
    "paper's recipe, from the line": lambda units: PathSettings(force="paper", epochs=units),
    "with redistribution, annealed": lambda units: PathSettings(
        start="line", optimizer=OptimizerSettings("sgd", lr=0.05), epochs=units
    ),
    # As much as a curve of four points can be trained; then read as a polygon of 37 points.
    "Bézier alone": lambda units: PathSettings(
        start="bezier", points=37, epochs=1, bezier_epochs=round(units * MOVING / 4)
    ),
    # AutoNEB: springs, momentum, growing where the loss between two points rises above them.
    "springs, insertion by residual": lambda units: PathSettings(
        start="line",
        force="spring",
        optimizer=OptimizerSettings("momentum", lr=0.01),
        points=11,
        insertion=Insertion(every=max(1, units // 5), criterion="residual", max_points=37),
        schedule=Schedule("anneal"),
        epochs=round(units * MOVING / 14),
    ),
    "our default": default,
    "a third": lambda units: default(units / 3),
}


def minima(regime: Regime, seed: int) -> tuple[ModuleObjective, list[Tensor]]:
    """The loss in minibatches of 256, and trained points [d]."""
    data = load_dataset(DataSpec.parse(regime.data))
    spec = NetworkSpec.parse(regime.network)
    module = build(spec, data.input_shape, data.classes)
    layout = ParameterLayout.of(module)
    objectives = [
        ModuleObjective(module, data.train_inputs, data.train_targets, batch_size=size)
        for size in (128, 256)
    ]
    settings = MinimumSettings(epochs=regime.epochs, batch_size=128)
    found = []
    for index in range(MINIMA):
        start = build(spec, data.input_shape, data.classes, 1000 * seed + index)
        state = begin(settings, layout.flatten(dict(start.named_parameters())))
        state = train_until(objectives[0], state, settings, 100 * seed + index, epoch=10**6)
        found.append(state.point[0])
    return objectives[1], found


def measure(name: str, seed: int) -> list[dict[str, object]]:
    """A row for each method and pair of one seed; printed as they come."""
    regime = REGIMES[name]
    objective, points = minima(regime, seed)
    births = objective.losses(torch.stack(points)).tolist()
    rows = []
    for i, j in itertools.combinations(range(MINIMA), 2):
        for method, settings in METHODS.items():
            started = time.process_time()
            chosen = settings(regime.units)
            if method == "Bézier alone":
                height, rows_used = _curve_alone(objective, points[i], points[j], chosen, seed)
            else:
                found = optimize_path(objective, points[i], points[j], chosen, seed=seed)
                height, rows_used = found.profile.maximum, found.gradient_evaluations
            row = {
                "regime": name,
                "seed": seed,
                "pair": [i, j],
                "method": method,
                "height": height,
                "birth": max(births[i], births[j]),
                "units": rows_used / MOVING / objective.batches,
                "seconds": time.process_time() - started,
            }
            print(json.dumps(row, ensure_ascii=False), file=sys.stderr, flush=True)
            rows.append(row)
    return rows


def _curve_alone(
    objective: ModuleObjective, start: Tensor, end: Tensor, settings: PathSettings, seed: int
) -> tuple[float, int]:
    """Garipov et al.: the quadratic curve and nothing else, with momentum as published."""
    from tests.benchmarks.garipov import trained_curve
    from topo_core.profile import loss_profile

    points, spent = trained_curve(objective, start, end, settings, seed)
    return loss_profile(objective, points).maximum, spent


def table(rows: list[dict[str, object]]) -> dict[str, float]:
    """Print medians and worst pairs, of the pairs that all methods have joined.

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
        print("| method | units | median | worst | best |\n|---|---|---|---|---|")
        for method, found in heights.items():
            print(
                f"| {method} | {statistics.mean(used[method]):.1f} | {statistics.median(found):.4g} "
                f"| {max(found):.4g} | {min(found):.4g} |"
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


OURS = ("our default", "a third")


def main(arguments: list[str]) -> dict[str, float]:
    """Measure regimes (and `seed=N` alone), or print the table of files of earlier rows."""
    prepare(Evaluation())
    files = [Path(a) for a in arguments if a.endswith(".jsonl")]
    rows = [
        json.loads(line) for f in files for line in f.read_text().splitlines() if line[:1] == "{"
    ]
    seeds = [int(a[5:]) for a in arguments if a.startswith("seed=")] or SEEDS
    for name in [a for a in arguments if a in REGIMES] or ([] if files else ["fc"]):
        for seed in seeds:
            rows += measure(name, seed)
    return table(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
