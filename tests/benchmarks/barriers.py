"""Heights of paths on losses that have minima and barriers, at equal numbers of gradients.

    python -m tests.benchmarks.heights barriers                 # digits: 3 pairs, 1,700 and 5,100 gradients
    python -m tests.benchmarks.heights barriers landscapes=truth,teacher pairs=99 methods=ours
    python -m tests.benchmarks.heights barriers landscapes=noisy methods=ours,AutoNEB into=rows.jsonl
    python -m tests.benchmarks.heights barriers landscapes=truth audit=1      # is any CONVERGED false?

The landscapes are in `barrier_landscapes`. Every method has the whole budget and its own optimiser. Its rate
on `digits` is the best of 0.03, 0.1, 0.3, 1, 2 and 4 on another pair of minima (AutoNEB's the next lower one,
since it diverges on other pairs at the best). Elsewhere it is the best of that rate times the numbers in
`factors=` on the pair itself, an advantage of the others over ours. On `truth` and `teacher` ours is a search
over saddles, which has a budget of its own. Heights are adaptive dense maxima of the best path seen.
`into=FILE` keeps the rows, and leaves out those that are there.
"""

import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tests.benchmarks.barrier_landscapes import LANDSCAPES, PAIRS, Case
from tests.benchmarks.garipov import trained_curve
from topo_core.paths.convergence import Outcome
from topo_core.paths.insertion_settings import Insertion
from topo_core.paths.optimize import optimize_path
from topo_core.paths.polyline import resample
from topo_core.paths.profiles import loss_profile
from topo_core.paths.schedules import Schedule
from topo_core.paths.settings import SEARCHED, PathSettings
from topo_core.paths.solution import PathSolution
from topo_core.paths.solver import PathSolver
from topo_core.paths.starts.initial_paths import find_start
from topo_core.paths.update_settings import OptimizerSettings

CURVE_POINTS = 37  # of the polygon as which a curve alone is measured
CONTINUED = 5  # times the gradients, in an audit
FALSE = 0.01  # of the barrier: a path that falls by more when it is continued had not converged

Row = dict[str, object]


@dataclass(frozen=True)
class PathResult:
    """Height of the path of a method, number of gradients and products, and outcome."""

    height: float
    gradients: int
    outcome: str = "–"


def _result(path: PathSolution) -> PathResult:
    return PathResult(path.profile.maximum, path.gradient_evaluations, path.outcome.value)


def shipped(case: Case, budget: int, factor: float) -> PathResult:
    """Ours, as ``our_path``."""
    del factor
    return _result(our_path(case, budget))


def our_path(case: Case, budget: int) -> PathSolution:
    """The path of our defaults, shortened to the budget in more than 128 dimensions.

    There the curve is trained as long as it pays, and the path has the epochs that the budget leaves.
    """
    batches = case.objective.batches
    if batches == 1 and len(case.start) <= SEARCHED:
        return optimize_path(case.objective, case.start, case.end)
    settings = PathSettings(bezier_epochs=max(1, budget // batches))
    solver = PathSolver(case.objective, settings)
    curve = find_start(case.objective, case.start, case.end, solver.resolved, 0)
    left = budget - curve.gradient_evaluations
    epochs, path = max(0, left // (25 * batches)), None
    for _ in range(3):  # how many gradients an epoch takes depends on when points are inserted
        solver = PathSolver(case.objective, replace(settings, epochs=epochs))
        state = solver.begin(
            curve.points,
            spent=curve.gradient_evaluations,
            profile=curve.profile,
            units=curve.units,
        )
        path = solver.solution(solver.advance(state, 0, until_epoch=epochs))
        spent = path.gradient_evaluations - curve.gradient_evaluations
        if 0.9 * left <= spent <= left or spent <= 0:
            break
        epochs = max(1, epochs * left * 97 // (spent * 100))
    assert path is not None
    return path


def springs(case: Case, budget: int, factor: float) -> PathResult:
    """AutoNEB: springs, momentum, and midpoints where the loss between two points rises above them."""
    settings = PathSettings(
        start="line",
        force="spring",
        optimizer=OptimizerSettings("momentum", lr=0.3 * factor),
        points=11,
        schedule=Schedule("anneal"),
    )
    batches = case.objective.batches
    epochs, path = max(1, budget // (15 * batches)), None
    for _ in range(3):
        insertion = Insertion(every=max(1, epochs // 8), criterion="residual", max_points=37)
        given = replace(settings, insertion=insertion, epochs=epochs)
        path = optimize_path(case.objective, case.start, case.end, given)
        if 0.9 * budget <= path.gradient_evaluations <= budget:
            break
        epochs = max(1, epochs * budget * 97 // (path.gradient_evaluations * 100))
    assert path is not None
    return _result(path)


def paper(case: Case, budget: int, factor: float) -> PathResult:
    """Algorithm 2 on the straight line, at a constant rate."""
    settings = PathSettings(
        force="paper",
        optimizer=OptimizerSettings("sgd", lr=factor),
        epochs=max(1, budget // (17 * case.objective.batches)),
    )
    return _result(optimize_path(case.objective, case.start, case.end, settings))


def quadratic(case: Case, budget: int, factor: float) -> PathResult:
    """Garipov et al.: the quadratic curve with momentum, one point a step."""
    return _curve(case, budget, 2.0 * factor, chain=False)


def polychain(case: Case, budget: int, factor: float) -> PathResult:
    """Garipov et al.: two straight segments."""
    return _curve(case, budget, 2.0 * factor, chain=True)


def _curve(case: Case, budget: int, rate: float, *, chain: bool) -> PathResult:
    passes = max(1, budget // case.objective.batches)
    settings = PathSettings(points=CURVE_POINTS, bezier_epochs=passes)
    points, spent = trained_curve(
        case.objective, case.start, case.end, settings, rate, seed=0, chain=chain
    )
    return PathResult(loss_profile(case.objective, points).maximum, spent)


METHODS: dict[str, Callable[[Case, int, float], PathResult]] = {
    "ours": shipped,
    "AutoNEB": springs,
    "quadratic": quadratic,
    "polychain": polychain,
    "paper": paper,
}


def measure(options: dict[str, str], rows: list[Row], keep: Callable[[Row], None]) -> None:
    """Every row that is asked for and not among `rows`, given to `keep` as soon as it is there."""
    known = {(r["landscape"], r["pair"], r["method"], r["budget"]) for r in rows}
    for name in options.get("landscapes", "digits").split(","):
        factors = [1.0]
        if name != "digits":
            factors = [float(f) for f in options.get("factors", "0.1,1").split(",")]
        count = int(options.get("pairs", min(3, PAIRS[name])))
        sizes = {"examples": int(options["examples"])} if "examples" in options else {}
        for case in LANDSCAPES[name](min(count, PAIRS[name]), **sizes):
            for budget in map(int, options.get("budgets", "1700,5100").split(",")):
                for method in options.get("methods", ",".join(METHODS)).split(","):
                    if (name, case.name, method, budget) not in known:
                        keep(_row(case, method, budget, [1.0] if method == "ours" else factors))


def _row(case: Case, method: str, budget: int, factors: list[float]) -> Row:
    started = time.process_time()
    best = min(
        (METHODS[method](case, budget, factor) for factor in factors),
        key=lambda one: one.height if math.isfinite(one.height) else math.inf,
    )
    return {
        "landscape": case.landscape,
        "pair": case.name,
        "method": method,
        "budget": budget,
        "height": best.height,
        "birth": case.birth,
        "lowest": case.lowest,
        "gradients": best.gradients,
        "outcome": best.outcome,
        "seconds": (time.process_time() - started) / len(factors),
    }


def table(rows: list[Row]) -> dict[tuple[str, int], float]:
    """Print heights above the higher minimum, of the pairs that were measured with all methods of a table.

    Returns:
        The median of ours over that of the best other, by landscape and budget.
    """
    ratios = {}
    for name, budget in dict.fromkeys((str(r["landscape"]), int(str(r["budget"]))) for r in rows):
        mine = [r for r in rows if r["landscape"] == name and r["budget"] == budget]
        methods = [m for m in METHODS if any(r["method"] == m for r in mine)]
        pairs = [
            pair
            for pair in dict.fromkeys(str(r["pair"]) for r in mine)
            if {r["method"] for r in mine if r["pair"] == pair} >= set(methods)
        ]
        print(f"\n{name}, {budget} gradients, {len(pairs)} pairs, {platform.machine()}, seed 0\n")
        print("| method | median | worst | each pair | gradients | converged | within 1 % | s |")
        print("|---|---|---|---|---|---|---|---|")
        medians = {}
        for method in methods:
            chosen = [r for r in mine if r["method"] == method and r["pair"] in pairs]
            above = [float(str(r["height"])) - float(str(r["birth"])) for r in chosen]
            if not above:
                continue
            medians[method] = statistics.median(above)
            right = [
                float(str(r["height"])) - float(str(r["lowest"]))
                <= 0.01 * (float(str(r["lowest"])) - float(str(r["birth"])))
                for r in chosen
                if r["lowest"] is not None
            ]
            print(
                f"| {method} | {medians[method]:.2g} | {max(above):.2g} "
                f"| {' '.join(f'{a:.2g}' for a in above)} "
                f"| {statistics.median(int(str(r['gradients'])) for r in chosen):.0f} "
                f"| {sum(r['outcome'] == 'converged' for r in chosen)} "
                f"| {f'{sum(right)} of {len(right)}' if right else '–'} "
                f"| {statistics.median(float(str(r['seconds'])) for r in chosen):.1f} |"
            )
        others = [median for method, median in medians.items() if method != "ours"]
        if "ours" in medians and others and min(others) > 0:
            ratios[name, budget] = medians["ours"] / min(others)
            print(f"\nMedian over that of the best other: {ratios[name, budget]:.2f}.")
    return ratios


def audit(options: dict[str, str]) -> tuple[int, int]:
    """Continue every path that says CONVERGED; print and return how many do, and how many of them fall.

    With five times the gradients on twice the points. A path as low as its higher end cannot fall.
    """
    converged, fell = 0, 0
    budget = int(options.get("budgets", "5100").split(",")[-1])
    for name in options.get("landscapes", "truth").split(","):
        sizes = {"examples": int(options["examples"])} if "examples" in options else {}
        count = min(int(options.get("pairs", "99")), PAIRS[name])
        for case in LANDSCAPES[name](count, **sizes):
            path = our_path(case, budget)
            barrier = path.profile.maximum - case.birth
            if path.outcome is not Outcome.CONVERGED or not barrier > 0:
                continue
            converged += 1
            fall = path.profile.maximum - _continued(case, path)
            fell += fall > FALSE * barrier
            print(f"{name} {case.name}: {path.profile.maximum:.8g} fell by {fall / barrier:.2%}")
    print(f"{converged} paths say CONVERGED, {fell} of them fell by more than {FALSE:.0%}")
    return converged, fell


def _continued(case: Case, path: PathSolution) -> float:
    """The height after five times the gradients on twice the points."""
    points = resample(path.points, 2 * len(path.points) - 1)
    epochs = max(1, CONTINUED * path.gradient_evaluations // (len(points) - 2))
    solver = PathSolver(
        case.objective,
        PathSettings(
            start="line",
            points=len(points),
            epochs=max(1, epochs // case.objective.batches),
            insertion=Insertion(max_points=len(points)),
        ),
    )
    state = solver.advance(solver.begin(points), 0, until_epoch=10**9)
    return min(state.best_maximum, path.profile.maximum)


def main(options: dict[str, str]) -> dict[tuple[str, int], float]:
    """Measure what the options ask for and print the table, or audit the word CONVERGED.

    Args:
        options: `landscapes`, `methods` and `budgets` (separated by commas), `pairs`, `examples`, `factors`,
            `into` and `audit`.
    """
    torch.set_num_threads(1)
    if "audit" in options:
        audit(options)
        return {}
    into = Path(options["into"]) if "into" in options else None
    rows: list[Row] = []
    if into is not None and into.exists():
        rows = [json.loads(line) for line in into.read_text().splitlines()]

    def keep(row: Row) -> None:
        rows.append(row)
        line = json.dumps(row, ensure_ascii=False)
        print(line, file=sys.stderr, flush=True)
        if into is not None:
            with into.open("a") as sink:
                sink.write(line + "\n")

    measure(options, rows, keep)
    return table(rows)
