"""Heights of paths on losses that have minima and barriers, at equal numbers of gradients.

    python -m tests.benchmarks.heights barriers                     # 3 pairs, 1,700 and 5,100 gradients
    python -m tests.benchmarks.heights barriers budgets=17000 pairs=1

The loss is L1: cross entropy of a 64-16-10 tanh network on 500 digits plus ½·10⁻³‖θ‖², full batch, float64.
Its minima are polished to gradient norms below 10⁻⁹. Every method has the whole budget, and its own optimiser
at the best of the rates 0.03, 0.1, 0.3, 1, 2 and 4 on another pair of minima; AutoNEB at the next lower one,
since it diverges on other pairs at the best. Heights are adaptive dense maxima of the best path seen.
"""

import itertools
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tests.benchmarks.garipov import trained_curve
from topo_core.critical_points.minima import polish_minimum
from topo_core.critical_points.verdicts import Verdict
from topo_core.objectives.protocol import FunctionObjective, from_function
from topo_core.paths.insertion_settings import Insertion
from topo_core.paths.optimize import optimize_path
from topo_core.paths.profiles import loss_profile
from topo_core.paths.schedules import Schedule
from topo_core.paths.settings import PathSettings
from topo_core.paths.solution import PathSolution
from topo_core.paths.update_settings import OptimizerSettings
from topo_core.random_streams import generator
from workers.problems.data_sets import load_dataset
from workers.tasks.specs import DataSpec

EXAMPLES, RIDGE = 500, 1e-3
SHAPES = ((16, 64), (16,), (10, 16), (10,))
CURVE_GRADIENTS = 1600  # of our default
CURVE_POINTS = 37  # of the polygon as which a curve alone is measured
RATES = {"paper": 1.0, "springs": 0.3, "curve": 2.0}


@dataclass(frozen=True)
class Pair:
    """Two minima to be joined with so many gradients."""

    objective: FunctionObjective
    start: Tensor
    end: Tensor
    budget: int

    def path(self, settings: PathSettings) -> PathSolution:
        """The path that the settings give. Only its end is measured often enough to keep the best."""
        return optimize_path(self.objective, self.start, self.end, settings)


def digits_loss(examples: int = EXAMPLES) -> FunctionObjective:
    """L1, as a formula of the parameters alone."""
    data = load_dataset(DataSpec.parse({"name": "digits"}))
    inputs = data.train_inputs[:examples].reshape(examples, -1).to(torch.float64)
    targets = data.train_targets[:examples]

    def loss(points: Tensor) -> Tensor:
        sizes = [torch.Size(shape).numel() for shape in SHAPES]
        parts = points.split(sizes, dim=1)
        w1, b1, w2, b2 = (p.reshape(-1, *s) for p, s in zip(parts, SHAPES, strict=True))
        hidden = torch.tanh(inputs @ w1.transpose(1, 2) + b1[:, None])
        logits = hidden @ w2.transpose(1, 2) + b2[:, None]
        each = -torch.log_softmax(logits, -1)[:, torch.arange(examples), targets]
        return each.mean(1) + 0.5 * RIDGE * points.square().sum(1)

    return from_function(loss, sum(torch.Size(shape).numel() for shape in SHAPES))


def minima(objective: FunctionObjective, count: int) -> list[Tensor]:
    """Polished minima from random initial weights, numbers 1 to ``count``."""
    found = []
    for index in range(1, count + 1):
        draw = generator(index, "barriers")
        start = torch.cat(
            [
                (2 * torch.rand(shape, generator=draw, dtype=torch.float64) - 1).flatten() / width
                for shape, width in zip(SHAPES, (8.0, 8.0, 4.0, 4.0), strict=True)
            ]
        )
        point = polish_minimum(objective, start)
        assert point.verdict is Verdict.MINIMUM, point.verdict
        found.append(point.point)
    return found


def shipped(pair: Pair) -> PathSolution:
    """Ours, with the epochs that the budget leaves; at most a half of it goes to the curve."""
    curve = min(CURVE_GRADIENTS, pair.budget // 2)
    epochs, found = (pair.budget - curve) // 25, None
    for _ in range(3):  # how many gradients an epoch takes depends on when points are inserted
        found = pair.path(PathSettings(bezier_epochs=curve, epochs=epochs))
        spent = found.gradient_evaluations - curve
        if 0.9 * (pair.budget - curve) <= spent <= pair.budget - curve:
            break
        epochs = max(1, epochs * (pair.budget - curve) * 97 // (spent * 100))
    assert found is not None
    return found


def springs(pair: Pair) -> PathSolution:
    """AutoNEB: springs, momentum, and midpoints where the loss between two points rises above them."""
    settings = PathSettings(
        start="line",
        force="spring",
        optimizer=OptimizerSettings("momentum", lr=RATES["springs"]),
        points=11,
        schedule=Schedule("anneal"),
    )
    epochs, found = pair.budget // 15, None
    for _ in range(3):
        insertion = Insertion(every=max(1, epochs // 8), criterion="residual", max_points=37)
        found = pair.path(replace(settings, insertion=insertion, epochs=epochs))
        if 0.9 * pair.budget <= found.gradient_evaluations <= pair.budget:
            break
        epochs = max(1, epochs * pair.budget * 97 // (found.gradient_evaluations * 100))
    assert found is not None
    return found


def paper(pair: Pair) -> PathSolution:
    """Algorithm 2 on the straight line, at a constant rate."""
    rate = OptimizerSettings("sgd", lr=RATES["paper"])
    return pair.path(PathSettings(force="paper", optimizer=rate, epochs=pair.budget // 17))


def garipov(pair: Pair) -> float:
    """Garipov et al.: the quadratic curve with momentum, one point a step."""
    settings = PathSettings(points=CURVE_POINTS, bezier_epochs=pair.budget)
    points, _ = trained_curve(
        pair.objective, pair.start, pair.end, settings, RATES["curve"], seed=0
    )
    return loss_profile(pair.objective, points).maximum


METHODS: dict[str, Callable[[Pair], PathSolution | float]] = {
    "ours as shipped": shipped,
    "AutoNEB": springs,
    "Garipov, quadratic curve": garipov,
    "Algorithm 2": paper,
}


def main(options: dict[str, str]) -> dict[int, float]:
    """Print the table, with heights above the higher minimum.

    Args:
        options: ``pairs``, ``budgets`` (separated by commas) and ``examples``.

    Returns:
        For each budget, the median of ours over that of the best other.
    """
    torch.set_num_threads(1)
    objective = digits_loss(int(options.get("examples", EXAMPLES)))
    count = int(options.get("pairs", "3"))
    points = minima(objective, count + 1)
    ratios = {}
    for budget in map(int, options.get("budgets", "1700,5100").split(",")):
        print(f"\n{budget} gradients\n\n| method | median | worst | pairs | converged |")
        print("|---|---|---|---|---|")
        medians = {}
        for name, method in METHODS.items():
            above, converged = [], 0
            for start, end in itertools.pairwise(points):
                found = method(Pair(objective, start, end, budget))
                birth = float(objective.losses(torch.stack([start, end])).max())
                height = found if isinstance(found, float) else found.profile.maximum
                above.append(height - birth)
                converged += not isinstance(found, float) and found.outcome.value == "converged"
            medians[name] = statistics.median(above)
            each = " ".join(f"{a:.2g}" for a in above)
            print(f"| {name} | {medians[name]:.2g} | {max(above):.2g} | {each} | {converged} |")
            sys.stdout.flush()
        others = [median for name, median in medians.items() if name != "ours as shipped"]
        ratios[budget] = medians["ours as shipped"] / min(others)
        print(f"\nMedian over that of the best other: {ratios[budget]:.2f}.")
    return ratios
