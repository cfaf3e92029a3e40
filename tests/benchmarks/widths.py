"""Does the largest energy gap fall with the width? The question of arXiv 2602.17596 on its two data sets.

    python -m tests.benchmarks.widths                            # about 10 minutes of one CPU core
    python -m tests.benchmarks.widths data=moons widths=2,4 seeds=1
    python -m tests.benchmarks.widths into=rows.jsonl            # in pieces: rows of the file are kept

One hidden layer, cross entropy, full batch, float64: 100 points of Moons (noise 0.2) and the 569 cases of the
Wisconsin breast cancer data (30 standardised features). The gap of a pair of minima is the height of the path
between them above the higher of the two. The publication reports that the largest gap of ReLU networks is
smaller for wider ones.

The plan, fixed before the run: widths 2, 4, 8, 16 (and 32 for Moons), seeds 0 to 4; for each, 3 random
starts are polished and joined by 3 paths as they are, without alignment. A path is a trained curve of
300 gradients and 50 epochs of the default optimiser. Three losses: ReLU without a ridge, ReLU and tanh
with a ridge ½·10⁻³‖θ‖². With tanh only verified minima count, and the peak of each path is followed to a
saddle. ReLU losses have kinks, and without a ridge mostly no minima: there every end that is finite
counts, and verdicts are reported. The trend over widths is tested by Page's test over seeds, one-sided,
corrected by Holm's method for all tests of the table.
"""

import itertools
import json
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from sklearn.datasets import load_breast_cancer, make_moons
from torch import Tensor, nn

from tests.benchmarks.network_barcodes import Network, minima
from topo_core import PathSettings, PathSolution, PolishSettings, Verdict, barcode, optimize_path
from topo_core.critical_points.saddles import refine_saddle
from topo_core.objectives.losses import CrossEntropy

WIDTHS = {"moons": (2, 4, 8, 16, 32), "cancer": (2, 4, 8, 16)}
SEEDS, MINIMA = 5, 3
PATHS = PathSettings(start="bezier", bezier_epochs=300, epochs=50)


@dataclass(frozen=True)
class Case:
    """An activation and a ridge, and what may be spent on its minima."""

    activation: type[nn.Module]
    ridge: float
    polish: PolishSettings = field(default_factory=PolishSettings)

    @property
    def smooth(self) -> bool:
        """Whether minima can be verified."""
        return self.activation is nn.Tanh


_ROUGH = PolishSettings(lbfgs=400, newton=5, products=50, leave=2)
CASES = {
    "ReLU": Case(nn.ReLU, 0.0, _ROUGH),
    "ReLU, ridge": Case(nn.ReLU, 1e-3, _ROUGH),
    "tanh, ridge": Case(nn.Tanh, 1e-3),
}


@dataclass(frozen=True)
class Row:
    """The result of one seed.

    Attributes:
        data, case, width, seed: what was measured.
        verdicts: number of polished starts with each verdict, by its name.
        gap: largest gap of a pair, the publication's measure; 0 if all starts end at copies of one minimum.
        bar: longest finite bar by the elder rule; 0 likewise.
        loss: mean loss of the minima.
        paths: number of paths.
        saddles: number of paths whose peak leads to a saddle of index exactly 1 between the path's height and
            its ends.
        seconds: of one CPU core.
    """

    data: str
    case: str
    width: int
    seed: int
    verdicts: dict[str, int]
    gap: float
    bar: float
    loss: float
    paths: int
    saddles: int
    seconds: float

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What was measured."""
        return self.data, self.case, self.width, self.seed


def data(name: str) -> tuple[Tensor, Tensor]:
    """Standardised inputs [n, m] and classes [n]."""
    if name == "moons":
        x, y = make_moons(100, noise=0.2, random_state=0)
    else:
        x, y = load_breast_cancer(return_X_y=True)
    inputs = torch.as_tensor((x - x.mean(0)) / x.std(0), dtype=torch.float64)
    return inputs, torch.as_tensor(y, dtype=torch.long)


def measured(name: str, label: str, width: int, seed: int) -> Row:
    """Minima of ``seed``, the paths between them, and their largest gap."""
    begun, case = time.process_time(), CASES[label]
    inputs, targets = data(name)
    sizes = (inputs.shape[1], width, 2)
    network = Network.of(inputs, targets, sizes, case.activation, CrossEntropy(), case.ridge)
    accepted = [Verdict.MINIMUM] if case.smooth else [v for v in Verdict if v != v.NOT_FINITE]
    ends = minima(network, MINIMA, seed=seed, accepted=accepted, settings=case.polish)
    heights, saddles = dict[tuple[int, int], float](), 0
    for i, j in itertools.combinations(range(len(ends.losses)), 2):
        solution = optimize_path(
            network.objective, ends.points[i], ends.points[j], PATHS, seed=seed
        )
        heights[i, j] = max(solution.profile.maximum, ends.losses[j])
        saddles += case.smooth and _leads_to_saddle(network, solution, ends.losses[j])
    longest = barcode(ends.losses, heights).longest
    return Row(
        name,
        label,
        width,
        seed,
        {verdict.name: count for verdict, count in ends.verdicts.most_common()},
        max((height - ends.losses[j] for (_, j), height in heights.items()), default=0.0),
        longest.length if longest else 0.0,
        sum(ends.losses) / max(1, len(ends.losses)),
        len(heights),
        saddles,
        time.process_time() - begun,
    )


def _leads_to_saddle(network: Network, solution: PathSolution, end: float) -> bool:
    """Whether the search from the peak ends at a saddle of index 1, above the higher ``end`` of the path."""
    points = solution.points
    top = int(network.objective.losses(points).argmax())
    if not 0 < top < len(points) - 1:
        return False
    saddle = refine_saddle(network.objective, points[top], points[top + 1] - points[top - 1])
    return saddle.is_pass and end < saddle.loss <= solution.profile.maximum


def trend(rows: Sequence[Row], measure: str) -> float:
    """One-sided p-value that the measure falls with the width, by Page's test over seeds.

    NaN with less than two seeds or three widths.
    """
    table = _by_width(rows, measure)
    if table.shape[0] < 2 or table.shape[1] < 3:
        return math.nan
    return float(stats.page_trend_test(-table).pvalue)


def main(options: dict[str, str]) -> list[Row]:
    """Measure the rows that are missing, and print the tables.

    Args:
        options: ``data``, ``cases`` (separated by a semicolon), ``widths``, ``seeds``; ``into=FILE`` keeps
            rows, and rows that it holds are not measured again; ``print=only`` measures nothing.
    """
    torch.set_num_threads(1)
    into = Path(options["into"]) if "into" in options else None
    kept = into.read_text().splitlines() if into is not None and into.exists() else []
    rows = {row.key: row for row in (Row(**json.loads(line)) for line in kept)}
    wanted = list(_keys(options))
    for key in wanted:
        if key in rows or options.get("print") == "only":
            continue
        rows[key] = measured(*key)
        if into is not None:
            with into.open("a") as sink:
                sink.write(json.dumps(asdict(rows[key])) + "\n")
    results = [rows[key] for key in wanted if key in rows]
    _print_rows(results)
    _print_trends(results)
    print(f"\n{sum(row.seconds for row in results):.0f} s of CPU.")
    return results


def _keys(options: dict[str, str]) -> Iterator[tuple[str, str, int, int]]:
    for name in options.get("data", ",".join(WIDTHS)).split(","):
        given = options.get("widths", ",".join(map(str, WIDTHS[name])))
        for label in options.get("cases", ";".join(CASES)).split(";"):
            for width in map(int, given.split(",")):
                for seed in range(int(options.get("seeds", SEEDS))):
                    yield name, label, width, seed


def _by_width(rows: Sequence[Row], measure: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """[seeds, widths], both increasing, of the seeds that have all widths."""
    widths, seeds = (sorted({getattr(row, name) for row in rows}) for name in ("width", "seed"))
    values = {(row.seed, row.width): getattr(row, measure) for row in rows}
    complete = [[values.get((seed, width)) for width in widths] for seed in seeds]
    table = [line for line in complete if None not in line]
    return np.array(table, dtype=float).reshape(len(table), len(widths))


def _groups(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    groups = dict[tuple[str, str], list[Row]]()
    for row in rows:
        groups.setdefault((row.data, row.case), []).append(row)
    return groups


def _print_rows(rows: Sequence[Row]) -> None:
    print(
        "| data | loss | width | seeds | verdicts | loss of minima | largest gap | longest bar | "
        "peaks at saddles |"
    )
    print("|" + "---|" * 9)
    for (name, label), group in _groups(rows).items():
        for width in sorted({row.width for row in group}):
            cell = [row for row in group if row.width == width]
            verdicts = sum((Counter(row.verdicts) for row in cell), Counter[str]())
            shown = ", ".join(
                f"{count} {verdict.lower().replace('_', ' ')}"
                for verdict, count in verdicts.most_common()
            )
            means = " | ".join(
                _mean([getattr(row, measure) for row in cell]) for measure in ("loss", "gap", "bar")
            )
            saddles = f"{sum(row.saddles for row in cell)} of {sum(row.paths for row in cell)}"
            last = saddles if CASES[label].smooth else "-"
            print(f"| {name} | {label} | {width} | {len(cell)} | {shown} | {means} | {last} |")


def _mean(values: Sequence[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.2g} ± {deviation:.1g}"


def _print_trends(rows: Sequence[Row]) -> None:
    print("\n| data | loss | falls with width | p | p (Holm) | smaller at the widest |")
    print("|" + "---|" * 6)
    tests = {
        (*key, measure): (trend(group, measure), _by_width(group, measure))
        for key, group in _groups(rows).items()
        for measure in ("gap", "bar")
    }
    values = [p for p, _ in tests.values() if not math.isnan(p)]
    for (name, label, measure), (p, table) in tests.items():
        fewer = sum(line[-1] < line[0] for line in table)
        adjusted = math.nan if math.isnan(p) else _holm(values, p)
        print(
            f"| {name} | {label} | {measure} | {p:.2g} | {adjusted:.2g} | {fewer} of {len(table)} |"
        )


def _holm(values: Sequence[float], p: float) -> float:
    """``p`` adjusted for all of ``values``, of which it is one."""
    adjusted = 0.0
    for rank, value in enumerate(sorted(values)):
        adjusted = max(adjusted, min(1.0, (len(values) - rank) * value))
        if value == p:
            break
    return adjusted


if __name__ == "__main__":
    main(dict(option.split("=", 1) for option in sys.argv[1:]))
