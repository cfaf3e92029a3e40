"""Do bars get lower with depth where minima are verified? The one-dimensional example of arXiv 1912.00043.

    python -m tests.benchmarks.one_dimensional networks=2            # half a minute of one CPU core
    python -m tests.benchmarks.one_dimensional into=FOLDER           # in pieces: results are kept
    python -m tests.benchmarks.one_dimensional into=FOLDER print=only

Squared error on 101 points of [-π, π], target 0.31 sin(-x) - 0.72 sin(-2x) - 0.21 cos x + 0.89 cos 2x, tanh
networks of one, two and three layers of 2 neurons. The published ends of bars are in ``PUBLISHED``.

The plan, fixed after trials on one and two layers with the same seed and before the first run: with a ridge
½·10⁻³‖θ‖² and without one, 60 random starts are polished (seed 0) and
those that are verified minima grouped into classes of exact copies. On the quotient each
class is climbed from along all eigenvectors of its Hessian, and joined with the lowest class and with
its nearest lower class, each with the nearest copy and with a random one, 6,000 gradients and Hessian-
vector products a search. New minima that a search reaches join the list, and are climbed from and joined
as well. All saddles of index 1 count; the barcode is that of the elder rule. Bars compared: all finite
ones of the quotient.

Changed on 29 November 2026, before anything was run without a ridge: there the search goes on from the
verified minima even if other starts ended at none (before: only if all starts were minima), and a bar ends
also where its minimum is connected to a valley whose loss is lower. Where no start is a minimum, the
``POLISHED`` lowest polished points are joined by ``PATHS`` instead, which gives upper bounds of heights
between points that are no minima. (Default paths first; without a ridge the first of them took longer than 35
seconds, and no height was seen.)

Added after the rows with a ridge were seen: classes whose bar does not end in this search (of three layers
only) are joined with the lowest class and the nearest lower class by ``PATHS``. Their heights are upper
bounds of the ends; they are listed apart and are in no column of the table.
"""

import itertools
import math
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.benchmarks.network_barcodes import Minima, Network, Start, classes, polished
from tests.benchmarks.quotient_search import QuotientSearch
from topo_core import PathSettings, Verdict, barcode, optimize_path

PUBLISHED = {"2": (0.55, 0.65), "2x2": (0.45, 0.55), "2x2x2": (0.40, 0.45)}
RIDGES = (1e-3, 0.0)
STARTS, BUDGET, SEED, POLISHED = 60, 6000, 0, 6
PATHS = PathSettings(start="bezier", bezier_epochs=300, epochs=50)


@dataclass(frozen=True)
class Row:
    """The result for one network with one ridge.

    Attributes:
        starts: classes of its minima from random starts, or of the lowest polished points if none is one.
        losses: of all polished starts, by verdict, increasing.
        bars: (birth, death) of all classes, lowest first; empty while the search has not begun.
        plain_ends: losses without the ridge at the saddles that end bars.
        saddles: classes of copies of saddles of index 1.
        verified: finite bars that end at a saddle whose index is proved to be exactly 1.
        valleys: finite bars that end because a valley without a minimum is lower.
        bounds: (birth, upper bound of the death) of bars that the search has left open, by paths.
        with_paths: all finite bars if these paths are added to the passes.
        complete: whether the search has ended.
        seconds: of one CPU core.
    """

    starts: Minima
    losses: dict[Verdict, list[float]]
    bars: tuple[tuple[float, float], ...]
    plain_ends: tuple[float, ...]
    saddles: int
    verified: int
    valleys: int
    bounds: tuple[tuple[float, float], ...]
    with_paths: tuple[tuple[float, float], ...]
    complete: bool
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


class Measurement:
    """The search on the network with hidden layers ``name``, kept in ``file`` after each of its parts.

    Args:
        name: widths of hidden layers, such as 2x2.
        ridge: λ of ½λ‖θ‖².
        starts: number of random starts.
        budget: gradients and Hessian-vector products of a search between two classes.
        file: where results are kept and continued from; None for nowhere.
    """

    def __init__(
        self,
        name: str,
        ridge: float,
        starts: int = STARTS,
        budget: int = BUDGET,
        file: Path | None = None,
    ) -> None:
        inputs, targets = data()
        sizes = (1, *map(int, name.split("x")), 1)
        self.network = Network.of_squared_error(inputs, targets, sizes, ridge)
        self.ridge, self.count, self.budget, self.file = ridge, starts, budget, file
        self.extent = float(targets.var(correction=0))
        self.starts = list[Start]()
        self.search: QuotientSearch | None = None
        self.heights = dict[
            tuple[int, int], float
        ]()  # of paths between polished points, or open classes
        self.complete, self.seconds, self._begun = False, 0.0, time.process_time()
        if file is not None and file.exists():
            self._load(torch.load(file, weights_only=True))

    def run(self) -> None:
        """Continue to the end."""
        self._begun = time.process_time()
        while len(self.starts) < self.count:
            self.starts.append(polished(self.network, len(self.starts), seed=SEED))
            self._save()
        minima = classes(self.network, self.starts)
        if minima.losses:
            if self.search is None:
                self.search = QuotientSearch.of(self.network, minima, self.extent)
            self.search.climb_all(seed=SEED, save=self._save)
            self.search.join_all(budget=self.budget, seed=SEED, save=self._save)
            self._join_open(self.search)
        else:
            self._join_points()
        self.complete = True
        self._save()

    def climb_again(self, turn: int) -> str:
        """Climb once more from all classes in random directions, and say what that has added."""
        if self.search is None:
            return "no minima."
        saddles, minima = self.search.climb_again(turn, seed=SEED)
        bars = ", ".join(f"[{b.birth:.4f}, {b.death:.4f}]" for b in self.search.barcode().bars)
        return f"{saddles} new classes of saddles, {minima} of minima; bars then: {bars}"

    def row(self) -> Row:
        """The results so far."""
        starts, search = classes(self.network, self.starts), self.search
        losses = dict[Verdict, list[float]]()
        for start in sorted(self.starts, key=lambda start: start.loss):
            losses.setdefault(start.verdict, []).append(start.loss)
        if search is None:
            points = self._points()
            known = barcode(points.losses, self.heights).bars if self.heights else ()
            ends = tuple((bar.birth, bar.death) for bar in known)
            return Row(points, losses, ends, (), 0, 0, 0, (), (), self.complete, self.seconds)
        bars = search.barcode()
        pairs = [bar.saddle for bar in bars.finite if bar.saddle is not None]
        passes = [search.pass_of(pair) for pair in pairs]
        squares = [float(one.point.square().sum()) for one in passes]
        return Row(
            starts,
            losses,
            tuple((bar.birth, bar.death) for bar in bars.bars),
            tuple(
                one.loss - 0.5 * self.ridge * square
                for one, square in zip(passes, squares, strict=True)
            ),
            len(search.passes),
            sum(search.is_verified(pair) for pair in pairs),
            sum(min(pair) < 0 for pair in pairs),
            *self._bounds(search),
            self.complete,
            self.seconds,
        )

    def _points(self) -> Minima:
        """The classes of the lowest polished points whose loss is finite."""
        finite = [verdict for verdict in Verdict if verdict is not Verdict.NOT_FINITE]
        all_of_them = classes(self.network, self.starts, finite)
        return Minima(
            all_of_them.verdicts,
            all_of_them.points[:POLISHED],
            all_of_them.losses[:POLISHED],
            all_of_them.hits[:POLISHED],
        )

    def _join_points(self) -> None:
        points = self._points()
        for i, j in itertools.combinations(range(len(points.losses)), 2):
            self._join(i, points.points[i], j, points.points[j])

    def _join_open(self, search: QuotientSearch) -> None:
        """Paths from each class whose bar does not end to the lowest class and the nearest lower one."""
        for k in _open(search):
            lower = [i for i, loss in enumerate(search.losses) if loss < search.losses[k]]
            nearest = min(lower, key=lambda i: search.distance(k, i))
            for other in sorted({nearest, min(lower, key=lambda i: search.losses[i])}):
                self._join(other, search.points[other], k, search.points[k])

    def _join(self, i: int, start: Tensor, j: int, end: Tensor) -> None:
        if (i, j) in self.heights:
            return
        end = self.network.symmetries.aligned(start, end)
        path = optimize_path(self.network.objective, start, end, PATHS, seed=SEED)
        ends = self.network.objective.losses(torch.stack([start, end]))
        self.heights[i, j] = max(path.profile.maximum, float(ends.max()))
        self._save()

    def _bounds(
        self, search: QuotientSearch
    ) -> tuple[tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]]:
        """Bars with paths added: those of classes that the search has left open, and all finite ones."""
        left = set(_open(search))
        bars = search.barcode(self.heights).finite
        ends = {bar.minimum: (bar.birth, bar.death) for bar in bars}
        return tuple(bar for k, bar in ends.items() if k in left), tuple(ends.values())

    def _save(self) -> None:
        now = time.process_time()
        self.seconds, self._begun = self.seconds + now - self._begun, now
        if self.file is None:
            return
        state: dict[str, Any] = {
            "starts": [(one.verdict.name, one.point, one.loss) for one in self.starts],
            "search": None if self.search is None else self.search.state(),
            "heights": self.heights,
            "complete": self.complete,
            "seconds": self.seconds,
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, self.file.with_suffix(".new"))
        self.file.with_suffix(".new").replace(self.file)

    def _load(self, state: dict[str, Any]) -> None:
        self.starts = [Start(Verdict[name], point, loss) for name, point, loss in state["starts"]]
        if state["search"] is not None:
            minima = classes(self.network, self.starts)
            self.search = QuotientSearch.of(self.network, minima, self.extent)
            self.search.restore(state["search"])
        self.heights = state["heights"]
        self.complete, self.seconds = state["complete"], state["seconds"]


def _open(search: QuotientSearch) -> list[int]:
    """Classes whose bar does not end, without the lowest."""
    lowest = min(search.losses)
    return [bar.minimum for bar in search.barcode().infinite if bar.birth > lowest]


def main(options: dict[str, str]) -> dict[tuple[str, float], Row]:
    """Print the table and the bars, row by row.

    Args:
        options: ``networks`` and ``ridges`` (separated by commas), ``starts`` and ``budget``; ``into=FOLDER``
            keeps results and continues those that are there; ``print=only`` measures nothing; ``again=N``
            climbs N more rounds in random directions, to see whether anything is missing, and keeps nothing.
    """
    torch.set_num_threads(1)
    names = options.get("networks", ",".join(PUBLISHED)).split(",")
    ridges = [float(one) for one in options["ridges"].split(",")] if "ridges" in options else RIDGES
    starts, budget = int(options.get("starts", STARTS)), int(options.get("budget", BUDGET))
    print(
        "| network | ridge | verdicts of the starts | classes | saddles | ends of bars | median | "
        "without the ridge | published | bars at verified saddles | bars that end at a valley | "
        "longest bar | ended | CPU seconds |"
    )
    print("|" + "---|" * 14)
    rows = dict[tuple[str, float], Row]()
    for ridge in ridges:
        for name in names:
            file = Path(options["into"]) / f"{name}-{ridge:g}.pt" if "into" in options else None
            measurement = Measurement(name, ridge, starts, budget, file)
            if options.get("print") != "only":
                measurement.run()
            rows[name, ridge] = row = measurement.row()
            _print(name, ridge, row)
            for turn in range(1, int(options.get("again", 0)) + 1):
                print(f"Round {turn} of further climbs: {measurement.climb_again(turn)}")
    for (name, ridge), row in rows.items():
        _print_details(name, ridge, row)
    return rows


def _print(name: str, ridge: float, row: Row) -> None:
    counts = Counter({verdict: len(losses) for verdict, losses in row.losses.items()})
    verdicts = ", ".join(f"{n} {_words(verdict)}" for verdict, n in counts.most_common())
    cells = ["-"] * 6
    if row.ends:
        longest = max(d - b for b, d in row.bars if math.isfinite(d))
        plain = f"{min(row.plain_ends):.3f} to {max(row.plain_ends):.3f}" if row.plain_ends else "-"
        cells = [
            f"{row.ends[0]:.3f} to {row.ends[-1]:.3f}",
            f"{statistics.median(row.ends):.3f}",
            plain,
            f"{row.verified} of {len(row.ends)}",
            str(row.valleys),
            f"{longest:.3f}",
        ]
    first, last = PUBLISHED.get(name, (math.nan, math.nan))
    more = max(0, len(row.bars) - len(row.starts.losses))
    print(
        f"| {name} | {ridge:g} | {verdicts} | {len(row.starts.losses)} + {more} | {row.saddles} | "
        f"{' | '.join(cells[:3])} | {first:.2f} to {last:.2f} | {' | '.join(cells[3:])} | "
        f"{'yes' if row.complete else 'no'} | {row.seconds:.0f} |"
    )
    sys.stdout.flush()


def _print_details(name: str, ridge: float, row: Row) -> None:
    print(f"\n{name}, ridge {ridge:g}, losses of polished starts:")
    for verdict, losses in row.losses.items():
        print(
            f"- {len(losses)} {_words(verdict)}: {losses[0]:.4f} to {losses[-1]:.4f}, "
            f"median {statistics.median(losses):.4f}"
        )
    if row.bars:
        bars = ", ".join(f"[{birth:.4f}, {death:.4f}]" for birth, death in row.bars)
        print(f"Bars: {bars}")
    if row.bounds:
        bounds = ", ".join(f"[{birth:.4f}, {end:.4f}]" for birth, end in row.bounds)
        ends = [end for _, end in row.with_paths]
        print(
            f"Upper bounds of bars that the search has left open: {bounds}. With them {len(ends)} bars end, "
            f"at {min(ends):.3f} to {max(ends):.3f}, median {statistics.median(ends):.3f}."
        )


def _words(verdict: Verdict) -> str:
    return verdict.name.lower().replace("_", " ")


if __name__ == "__main__":
    main(dict(option.split("=", 1) for option in sys.argv[1:]))
