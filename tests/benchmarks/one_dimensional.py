"""Do bars get lower with depth where minima are verified? The one-dimensional example of arXiv 1912.00043.

    python -m tests.benchmarks.one_dimensional                       # about 10 minutes of one CPU core
    python -m tests.benchmarks.one_dimensional networks=2 starts=30  # one layer of 2 neurons

Squared error on 101 points of [-π, π], target 0.31 sin(-x) - 0.72 sin(-2x) - 0.21 cos x + 0.89 cos 2x, tanh
networks of one, two and three layers of 2 neurons. The published ends of bars are in ``PUBLISHED``.

The plan, fixed after trials on one and two layers with the same seed and before the run: with a ridge
½·10⁻³‖θ‖² and without one, 60 random starts are polished (seed 0) and
those that are verified minima grouped into classes of exact copies. On the quotient each
class is climbed from along all eigenvectors of its Hessian, and joined with the lowest class and with
its nearest lower class, each with the nearest copy and with a random one, 6,000 gradients and Hessian-
vector products a search. New minima that a search reaches join the list, and are climbed from and joined
as well. All saddles of index 1 count; the barcode is that of the elder rule. Bars compared: all finite
ones of the quotient. Without a ridge the search goes on only where all starts have ended at verified
minima: elsewhere some descents never end.
"""

import math
import statistics
import sys
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tests.benchmarks.network_barcodes import Minima, Network, minima
from tests.benchmarks.quotient_search import QuotientSearch
from topo_core import Verdict
from topo_core.objectives.losses.squared_error import SquaredError

PUBLISHED = {"2": (0.55, 0.65), "2x2": (0.45, 0.55), "2x2x2": (0.40, 0.45)}
RIDGES = (1e-3, 0.0)
STARTS, BUDGET, SEED = 60, 6000, 0


@dataclass(frozen=True)
class Row:
    """What one network gave with one ridge.

    Attributes:
        found: its minima from random starts.
        bars: (birth, death) of all classes, lowest first; empty where nothing was searched.
        plain_ends: losses without the ridge at the saddles that end bars.
        saddles: classes of copies of saddles of index 1.
        verified: finite bars that end at a saddle whose index is proved to be exactly 1.
        seconds: of one CPU core.
    """

    found: Minima
    bars: tuple[tuple[float, float], ...]
    plain_ends: tuple[float, ...]
    saddles: int
    verified: int
    seconds: float

    @property
    def ends(self) -> list[float]:
        """The losses at which finite bars end, increasing."""
        return sorted(death for _, death in self.bars if math.isfinite(death))


def data() -> tuple[Tensor, Tensor]:
    """Inputs [101, 1] and targets [101]."""
    x = torch.linspace(-math.pi, math.pi, 101, dtype=torch.float64)
    y = 0.31 * (-x).sin() - 0.72 * (-2 * x).sin() - 0.21 * x.cos() + 0.89 * (2 * x).cos()
    return x[:, None], y


def measured(name: str, ridge: float, starts: int = STARTS, budget: int = BUDGET) -> Row:
    """The barcode of the network with hidden layers ``name``."""
    begun = time.process_time()
    inputs, targets = data()
    sizes = (1, *map(int, name.split("x")), 1)
    network = Network.of(inputs, targets, sizes, nn.Tanh, SquaredError(), ridge)
    found = minima(network, starts, seed=SEED)
    if found.verdicts[Verdict.MINIMUM] < starts:
        return Row(found, (), (), 0, 0, time.process_time() - begun)
    search = QuotientSearch.of(network, found, float(targets.var(correction=0)))
    search.run(1, seed=SEED)
    search.join_all(budget=budget, seed=SEED)
    bars = search.barcode()
    saddles = [bar.saddle for bar in bars.finite if bar.saddle is not None]
    squares = [float(search.pass_of(pair).point.square().sum()) for pair in saddles]
    return Row(
        found,
        tuple((bar.birth, bar.death) for bar in bars.bars),
        tuple(
            search.pass_of(pair).loss - 0.5 * ridge * square
            for pair, square in zip(saddles, squares, strict=True)
        ),
        len(search.passes),
        sum(search.is_verified(pair) for pair in saddles),
        time.process_time() - begun,
    )


def main(options: dict[str, str]) -> dict[tuple[str, float], Row]:
    """Print the table and the bars, row by row.

    Args:
        options: ``networks`` and ``ridges`` (separated by commas), ``starts`` and ``budget``.
    """
    torch.set_num_threads(1)
    names = options.get("networks", ",".join(PUBLISHED)).split(",")
    ridges = [float(one) for one in options["ridges"].split(",")] if "ridges" in options else RIDGES
    starts, budget = int(options.get("starts", STARTS)), int(options.get("budget", BUDGET))
    print(
        "| network | ridge | verdicts of the starts | classes | saddles | ends of bars | median | "
        "without the ridge | published | bars at verified saddles | longest bar | CPU seconds |"
    )
    print("|" + "---|" * 12)
    rows = dict[tuple[str, float], Row]()
    for ridge in ridges:
        for name in names:
            rows[name, ridge] = row = measured(name, ridge, starts, budget)
            _print(name, ridge, row)
    for (name, ridge), row in rows.items():
        if row.bars:
            bars = ", ".join(f"[{birth:.4f}, {death:.4f}]" for birth, death in row.bars)
            print(f"\n{name}, ridge {ridge:g}: {bars}")
    return rows


def _print(name: str, ridge: float, row: Row) -> None:
    verdicts = ", ".join(
        f"{count} {verdict.name.lower().replace('_', ' ')}"
        for verdict, count in row.found.verdicts.most_common()
    )
    cells = ["-"] * 5
    if row.ends:
        longest = max(d - b for b, d in row.bars if math.isfinite(d))
        cells = [
            f"{row.ends[0]:.3f} to {row.ends[-1]:.3f}",
            f"{statistics.median(row.ends):.3f}",
            f"{min(row.plain_ends):.3f} to {max(row.plain_ends):.3f}",
            f"{row.verified} of {len(row.bars) - 1}",
            f"{longest:.3f}",
        ]
    first, last = PUBLISHED.get(name, (math.nan, math.nan))
    classes = f"{len(row.found.losses)} + {max(0, len(row.bars) - len(row.found.losses))}"
    print(
        f"| {name} | {ridge:g} | {verdicts} | {classes} | {row.saddles} | {' | '.join(cells[:3])} | "
        f"{first:.2f} to {last:.2f} | {' | '.join(cells[3:])} | {row.seconds:.0f} |"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main(dict(option.split("=", 1) for option in sys.argv[1:]))
