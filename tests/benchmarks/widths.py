"""Does the largest energy gap fall with the width? The question of arXiv 2602.17596 on its two data sets.

    python -m tests.benchmarks.widths                            # about 10 minutes of one CPU core
    python -m tests.benchmarks.widths data=moons widths=2,4 seeds=1

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
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

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


@dataclass
class Cell:
    """One width: lists have one value for each seed.

    Attributes:
        verdicts: of all polished starts.
        gaps: largest gap of a pair, the publication's measure.
        bars: longest finite bar by the elder rule.
        losses: mean loss of the minima.
        paths: how many.
        saddles: how many of their peaks lead to a saddle of index exactly 1 between the path's height and
            its ends.
    """

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    gaps: list[float] = field(default_factory=list)
    bars: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    paths: int = 0
    saddles: int = 0


def data(name: str) -> tuple[Tensor, Tensor]:
    """Standardised inputs [n, m] and classes [n]."""
    if name == "moons":
        x, y = make_moons(100, noise=0.2, random_state=0)
    else:
        x, y = load_breast_cancer(return_X_y=True)
    inputs = torch.as_tensor((x - x.mean(0)) / x.std(0), dtype=torch.float64)
    return inputs, torch.as_tensor(y, dtype=torch.long)


def measured(name: str, case: Case, width: int, seeds: int) -> Cell:
    """The cell of one width."""
    inputs, targets = data(name)
    sizes = (inputs.shape[1], width, 2)
    network = Network.of(inputs, targets, sizes, case.activation, CrossEntropy(), case.ridge)
    accepted = [Verdict.MINIMUM] if case.smooth else [v for v in Verdict if v != v.NOT_FINITE]
    cell = Cell()
    for seed in range(seeds):
        found = minima(network, MINIMA, seed=seed, accepted=accepted, settings=case.polish)
        cell.verdicts += found.verdicts
        heights = dict[tuple[int, int], float]()
        for i, j in itertools.combinations(range(len(found.losses)), 2):
            solution = optimize_path(
                network.objective, found.points[i], found.points[j], PATHS, seed=seed
            )
            heights[i, j] = max(solution.profile.maximum, found.losses[j])
            cell.paths += 1
            cell.saddles += case.smooth and _leads_to_saddle(network, solution, found.losses[j])
        gaps = [height - found.losses[j] for (_, j), height in heights.items()]
        longest = barcode(found.losses, heights).longest
        cell.gaps.append(max(gaps, default=0.0))
        cell.bars.append(longest.length if longest else 0.0)
        cell.losses.append(sum(found.losses) / max(1, len(found.losses)))
    return cell


def _leads_to_saddle(network: Network, solution: PathSolution, end: float) -> bool:
    """Whether the search from the peak ends at a saddle of index 1, above the higher ``end`` of the path."""
    points = solution.points
    top = int(network.objective.losses(points).argmax())
    if not 0 < top < len(points) - 1:
        return False
    saddle = refine_saddle(network.objective, points[top], points[top + 1] - points[top - 1])
    return saddle.is_pass and end < saddle.loss <= solution.profile.maximum


def trend(cells: dict[int, Cell], measure: str) -> float:
    """One-sided p-value that the measure falls with the width, by Page's test over seeds."""
    rows = np.array([getattr(cells[width], measure) for width in sorted(cells)]).T
    if len(rows) < 2 or rows.shape[1] < 3:
        return float("nan")
    return float(stats.page_trend_test(-rows).pvalue)


def main(options: dict[str, str]) -> dict[tuple[str, str], dict[int, Cell]]:
    """Print the tables.

    Args:
        options: ``data``, ``cases`` (separated by a semicolon), ``widths``, ``seeds``.
    """
    torch.set_num_threads(1)
    seeds, begun = int(options.get("seeds", SEEDS)), time.process_time()
    results = dict[tuple[str, str], dict[int, Cell]]()
    print(
        "| data | loss | width | verdicts | loss of minima | largest gap | longest bar | peaks at saddles |"
    )
    print("|" + "---|" * 8)
    for name in options.get("data", ",".join(WIDTHS)).split(","):
        widths = [int(one) for one in options["widths"].split(",")] if "widths" in options else None
        for label in options.get("cases", ";".join(CASES)).split(";"):
            cells = results[name, label] = {}
            for width in widths or WIDTHS[name]:
                cells[width] = measured(name, CASES[label], width, seeds)
                _print(name, label, width, cells[width])
    tests = {
        (*key, measure): trend(cells, measure)
        for key, cells in results.items()
        for measure in ("gaps", "bars")
    }
    print("\n| data | loss | falls with width | p | p (Holm) | smaller at the widest |")
    print("|" + "---|" * 6)
    for (name, label, measure), p in tests.items():
        cells = results[name, label]
        first, last = (getattr(cells[width], measure) for width in (min(cells), max(cells)))
        fewer = sum(b < a for a, b in zip(first, last, strict=True))
        adjusted = _holm(list(tests.values()), p)
        print(f"| {name} | {label} | {measure} | {p:.2g} | {adjusted:.2g} | {fewer} of {seeds} |")
    print(f"\n{time.process_time() - begun:.0f} s of CPU.")
    return results


def _holm(values: list[float], p: float) -> float:
    """``p`` adjusted for all of ``values``, of which it is one."""
    adjusted = 0.0
    for rank, value in enumerate(sorted(values)):
        adjusted = max(adjusted, min(1.0, (len(values) - rank) * value))
        if value == p:
            break
    return adjusted


def _print(name: str, label: str, width: int, cell: Cell) -> None:
    verdicts = ", ".join(
        f"{count} {verdict.name.lower().replace('_', ' ')}"
        for verdict, count in cell.verdicts.most_common()
    )
    shown = [
        f"{np.mean(v):.2g} ± {np.std(v, ddof=1) if len(v) > 1 else 0:.1g}"
        for v in (cell.losses, cell.gaps, cell.bars)
    ]
    saddles = f"{cell.saddles} of {cell.paths}" if CASES[label].smooth else "-"
    print(f"| {name} | {label} | {width} | {verdicts} | {' | '.join(shown)} | {saddles} |")
    sys.stdout.flush()


if __name__ == "__main__":
    main(dict(option.split("=", 1) for option in sys.argv[1:]))
