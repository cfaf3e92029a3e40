"""A run's paths against Algorithm 2 as a plain loop: processor time to heights within 1 % of the best known.

    python -m tests.benchmarks.whole_run pairs=3                # the first pairs of ten minima
    python -m tests.benchmarks.whole_run pairs=45 into=rows.jsonl

Ten minima of 784-32-32-10 on mnist5k, cross entropy + ½·10⁻³‖θ‖², minibatches of 256, one thread. *Ours* is
the path with shipped defaults, from the two minima to the measured height. *Best known* is the lower of that
and of a path with four times the passes of the curve. The loop is ``literal.step`` on 17 moving points from
the straight line at its tuned rate; its height is measured after every epoch, which does not count. It is
stopped after ``most`` times the time of ours, and then the ratio is a lower bound. ``into=FILE`` keeps rows.
"""

import itertools
import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tests.benchmarks import literal
from topo_core.objectives.flat_parameters import ParameterLayout
from topo_core.objectives.losses import Ridge
from topo_core.objectives.network_loss import ModuleObjective
from topo_core.objectives.protocol import Step
from topo_core.paths.optimize import optimize_path
from topo_core.paths.polyline import line
from topo_core.paths.profiles import loss_profile
from topo_core.paths.settings import PathSettings
from workers.execution.training import begin, train_until
from workers.problems.data_sets import load_dataset
from workers.problems.networks import build
from workers.tasks.minimum_settings import MinimumSettings
from workers.tasks.specs import DataSpec, NetworkSpec

RIDGE, BATCH, MINIMA, EPOCHS = 1e-3, 256, 10, 150
POINTS = 19
RATE = 0.05  # of the loop: the best of `heights`
CLOSE = 1.01  # times the best known height
MOST = 25.0  # times the time of ours, after which the loop is stopped


@dataclass(frozen=True)
class Problem:
    """The loss, a module for the loop, and the minima [d]."""

    objective: ModuleObjective
    module: nn.Module
    minima: list[Tensor]


def problem(count: int) -> Problem:
    """The loss and ``count`` minima, trained as a run trains them."""
    data = load_dataset(DataSpec.parse({"name": "mnist5k"}))
    spec = NetworkSpec.parse({"name": "fc"})
    module = build(spec, data.input_shape, data.classes)
    objective = ModuleObjective(
        module, data.train_inputs, data.train_targets, batch_size=BATCH, ridge=Ridge(RIDGE)
    )
    layout, settings = ParameterLayout.of(module), MinimumSettings(epochs=EPOCHS, batch_size=BATCH)
    minima = []
    for index in range(count):
        first = build(spec, data.input_shape, data.classes, 1000 + index)
        state = begin(settings, layout.flatten(dict(first.named_parameters())))
        minima.append(train_until(objective, state, settings, index, epoch=10**6).point[0])
    return Problem(objective, module, minima)


def ours(given: Problem, start: Tensor, end: Tensor) -> tuple[float, float, float]:
    """Height, best known height, and seconds of the first."""
    began = time.process_time()
    path = optimize_path(given.objective, start, end)
    seconds = time.process_time() - began
    passes = 4 * PathSettings().resolve(given.objective.batches).bezier_epochs
    longer = optimize_path(given.objective, start, end, PathSettings(bezier_epochs=passes))
    return path.profile.maximum, min(path.profile.maximum, longer.profile.maximum), seconds


def loop(
    given: Problem, start: Tensor, end: Tensor, goal: float, most: float
) -> tuple[float, float]:
    """Lowest height of the loop, and the seconds until it was within ``goal`` or had taken ``most``."""
    path = list(line(start, end, POINTS))
    best, seconds, epoch = float("inf"), 0.0, 0
    while best > goal and seconds < most:
        began = time.process_time()
        for batch in range(given.objective.batches):
            inputs, targets = given.objective.minibatch(Step(0, epoch, batch))
            # The gradient of the ridge ½ λ ‖θ‖² is a weight decay.
            literal.step(given.module, path, inputs, targets, RATE, RIDGE)
        seconds += time.process_time() - began
        epoch += 1
        best = min(best, loss_profile(given.objective, torch.stack(path), tolerance=1e-3).maximum)
    return best, seconds


def main(options: dict[str, str]) -> float:
    """Measure pairs, print the table, and return the median ratio."""
    torch.set_num_threads(1)
    into = Path(options["into"]) if "into" in options else None
    rows = (
        [json.loads(row) for row in into.read_text().splitlines()] if into and into.exists() else []
    )
    pairs = list(itertools.combinations(range(MINIMA), 2))[: int(options.get("pairs", "3"))]
    left = [pair for pair in pairs if list(pair) not in [row["pair"] for row in rows]]
    given = problem(1 + max(max(pair) for pair in left)) if left else None
    for i, j in left:
        assert given is not None
        ends = given.minima[i], given.minima[j]
        height, known, seconds = ours(given, *ends)
        most = float(options.get("most", MOST)) * seconds
        reached, taken = loop(given, *ends, CLOSE * known, most)
        birth = float(given.objective.losses(torch.stack(ends)).max())
        row = {"pair": [i, j], "birth": birth, "ours": height, "known": known, "seconds": seconds}
        rows.append({**row, "loop": reached, "loop_seconds": taken})
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        if into is not None:
            with into.open("a") as sink:
                sink.write(json.dumps(rows[-1]) + "\n")
    print("| pair | higher minimum | ours | best known | s | loop | s | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    ratios = []
    for row in rows:
        ratios.append(row["loop_seconds"] / row["seconds"])
        more = "" if row["loop"] <= CLOSE * row["known"] else "> "
        print(
            f"| {row['pair']} | {row['birth']:.4f} | {row['ours']:.4f} | {row['known']:.4f} "
            f"| {row['seconds']:.1f} | {row['loop']:.4f} | {row['loop_seconds']:.0f} "
            f"| {more}{ratios[-1]:.1f} |"
        )
    within = sum(row["ours"] <= CLOSE * row["known"] for row in rows)
    print(f"\n{within} of {len(rows)} of ours within 1 % of the best known.")
    return statistics.median(ratios)


if __name__ == "__main__":
    main(dict(word.split("=", 1) for word in sys.argv[1:]))
