"""Lazy pairs and rungs against all pairs at full length, on real data.

    python -m tests.benchmarks.lazy digits              # 12 minima of 64-32-32-10
    python -m tests.benchmarks.lazy fc2 fc4             # of 784-32-32-10 and 784-32-32-32-32-10
    python -m tests.benchmarks.lazy digits --store DIR  # keep the runs there, and go on with them

First a run with rule `all`. What rule `lazy` asks for, reaches and says at several tolerances is then read
from its store: the bits of a path depend on its key alone, and `reduce` goes by the rounds of the rule,
not by what else is there. One such run, the first that proves something, is carried out by the program
as well, and has to agree. Runs with `rungs` take over whole paths (`reuse:`) and optimise the lower rungs.

Where the proof does not come, a budget decides: `max_pairs`, against as many pairs drawn at random (the
median over 200 draws; infinite where they do not connect all minima).

Prints a row a run: pairs that it asked for, its share of the path-epochs and of the gradients (with
the trained curves that the paths start from), the bottleneck distance between its elder
barcode and that of all pairs, and whether it is proved or what is still open.
"""

import argparse
import math
import random
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.analysis.landscape import Landscape
from orchestrator.analysis.reduction import reduce_run
from orchestrator.launch import LaunchOptions, execute
from orchestrator.pair_rules.path_requests import Rung
from orchestrator.planning.plan import Plan
from orchestrator.run_file.groups import Pairs
from orchestrator.run_file.reading import parse
from topo_core import barcode, bottleneck, to_score
from topo_core.homology.barcodes import Barcode
from workers.problems.data_sets import sizes
from workers.storage.run_store import Store

SHARES = (0.1, 0.25, 0.5, 0.75, 1.0, 2.0)
"""Tolerances, in lengths of the longest bar: what can be proved depends on them alone."""
RUNG_SHARES = (0.01, 0.1, 0.3)
BUDGETS = (16, 22, 33)
_ROUNDING = 1e-9
"""Of the highest death: stands for the longest bar where none has a length."""
DRAWS = 200

_PATHS: Mapping[str, Any] = {
    "start": "bezier",
    "optimizer": {"name": "adam", "lr": 3e-3},
    "schedule": {"name": "anneal"},
    "evaluate_every": 20,
}


def _run_file(
    data: Mapping[str, Any],
    hidden: int,
    *,
    training: int,
    batch: int,
    points: int,
    curve: int,
    epochs: int,
) -> Mapping[str, Any]:
    return {
        "data": data,
        "network": {"name": "fc", "hidden": [32] * hidden},
        "minima": {
            "count": 12,
            "epochs": training,
            "batch_size": 64,
            "optimizer": {"name": "adam", "lr": 3e-3},
        },
        "paths": {
            **_PATHS,
            "batch_size": batch,
            "points": points,
            "bezier_epochs": curve,
            "epochs": epochs,
        },
    }


_MNIST = {"name": "mnist5k", "subset": 1000}

RUNS: Mapping[str, Mapping[str, Any]] = {
    "digits": _run_file(
        {"name": "digits"}, 2, training=150, batch=256, points=9, curve=80, epochs=24
    ),
    "fc2": _run_file(_MNIST, 2, training=40, batch=500, points=7, curve=120, epochs=30),
    "fc4": _run_file(_MNIST, 4, training=40, batch=500, points=7, curve=120, epochs=30),
}
RUNGS: Mapping[str, tuple[int, ...]] = {"digits": (6,), "fc2": (8,), "fc4": (8,)}


@dataclass(frozen=True)
class Cost:
    """What the paths of a run cost.

    Attributes:
        pairs: whose path was run, on whatever rung.
        whole: those of them that were run to full length.
        epochs: of paths.
        gradients: of points on minibatches, those of the starting curves among them.
    """

    pairs: int
    whole: int
    epochs: int
    gradients: int


@dataclass(frozen=True)
class Finished:
    """A run that was carried out."""

    plan: Plan
    landscape: Landscape
    store: Store

    @property
    def bars(self) -> Barcode:
        return self.landscape.barcodes["elder"]

    @property
    def requests(self) -> list[Rung]:
        """Every path that was asked for, with its rung."""
        plan = self.plan
        if not plan.adaptive:
            return [(pair, 0) for pair in plan.pairs()]
        heights = self.store.figures("pairs")
        rounds = plan.rounds(self.landscape.losses)
        rounds.advance(
            lambda request: heights.get(plan.request_key(request, rounds)), lambda request: False
        )
        assert not rounds.waiting
        return [(request.pair, request.rung) for request in rounds.requests]

    @property
    def cost(self) -> Cost:
        plan, requests = self.plan, self.requests
        settings, top = plan.path_settings, len(plan.rungs) - 1
        batches = math.ceil(sizes(plan.run.data).train / settings.batch_size)
        epochs = 0
        for _, rung in requests:
            epochs += plan.rungs[rung].resolve(batches).epochs
            if rung:  # it went on from where the rung below began to anneal
                epochs -= plan.rungs[rung - 1].resolve(batches).depends_on_epochs_from
        pairs = len({pair for pair, _ in requests})
        return Cost(
            pairs,
            sum(rung == top for _, rung in requests),
            epochs,
            batches * (pairs * settings.bezier_epochs + epochs * (settings.points - 2)),
        )


@dataclass(frozen=True)
class Row:
    """Of the table: what a run claims, and how far its bars are from those of all pairs."""

    tolerance: float
    proved: bool
    distance: float


def carried_out(store: str, name: str, kind: str = "", **changes: Any) -> Finished:
    """A run of RUNS, with changes, carried out in this process.

    Args:
        store: a folder.
        name: of RUNS.
        kind: of the changes, for the name of the run.
        changes: keys of the run file.
    """
    run = parse({**RUNS[name], "name": f"{name}{kind}", "store": store, **changes})
    found = execute(run, LaunchOptions(in_process=True, quiet=True))
    assert found.code == 0, found.outcome
    return Finished(found.plan, reduce_run(found.plan, found.store), found.store)


def main(arguments: Sequence[str] | None = None) -> dict[tuple[str, str], Row]:
    """Print the table of each run that is named; the rows by run and title."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="NAME", default=["digits"])
    parser.add_argument("--store", help="A folder that keeps the runs.")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        rows = {}
        for name in options.names:
            rows |= {(name, k): row for k, row in _compare(options.store or temporary, name)}
    return rows


def _compare(store: str, name: str) -> Iterator[tuple[str, Row]]:
    everything = carried_out(store, name)
    taken = {"reuse": [f"{store}/{name}"]}
    whole, bars = everything.cost, everything.bars
    losses = sorted(everything.landscape.losses.values())
    deaths = sorted(bar.death for bar in bars.finite)
    print(
        f"\n{name}: {len(losses)} minima, losses {losses[0]:.2g} to {losses[-1]:.2g}; elder bars end "
        f"at {deaths[0]:.2g} to {deaths[-1]:.2g}, TO-score {to_score(bars):.3g}; all "
        f"{whole.pairs} pairs: {whole.epochs:,} path-epochs, {whole.gradients:.3g} gradients"
    )
    print("| run | pairs | to the end | path-epochs | gradients | bottleneck | |")
    print("|---|---|---|---|---|---|---|")
    longest = 2 * to_score(bars) or _ROUNDING * abs(deaths[-1])
    lazy: dict[str, dict[str, Any]] = {
        f"lazy, tolerance {share * longest:.2g} ({share:g} bars)": {
            "rule": "lazy",
            "tolerance": share * longest,
        }
        for share in SHARES
    }
    for budget in BUDGETS:
        rule = {"rule": "lazy", "tolerance": SHARES[0] * longest, "max_pairs": budget}
        lazy[f"lazy, {budget} pairs"] = rule
    checked = False
    for title, rule in lazy.items():
        found = _asked(everything, rule)
        proves = found.landscape.undecided.proved and found.landscape.counts.skipped > 0
        if proves and not checked:
            checked = True
            program = carried_out(store, name, "-lazy", pairs=rule, **taken)
            assert (program.requests, program.bars) == (found.requests, found.bars)
        yield title, _row(title, found, everything)
    for number, share in enumerate(RUNG_SHARES):
        rule = {"rungs": RUNGS[name], "tolerance": share * longest}
        found = carried_out(store, name, f"-rungs-{number}", pairs=rule, **taken)
        # The lower rungs of the next one are those of this one.
        taken = {"reuse": [f"{store}/{name}", f"{store}/{name}-rungs-{number}"]}
        title = f"rungs {list(RUNGS[name])}, tolerance {share * longest:.2g} ({share:g} bars)"
        yield title, _row(title, found, everything)
    for budget in BUDGETS:
        distance = _at_random(everything, budget)
        print(
            f"| at random, {budget} pairs | {budget} of {whole.pairs} | {budget} | | | {distance:.2g} | |"
        )


def _asked(everything: Finished, rule: Mapping[str, Any]) -> Finished:
    """A run by another rule, replayed from the store of a run that has all pairs."""
    run = everything.plan.run.model_copy(update={"pairs": Pairs(**rule)})
    plan = Plan(run, everything.plan.identity)
    return Finished(plan, reduce_run(plan, everything.store), everything.store)


def _row(title: str, found: Finished, everything: Finished) -> Row:
    """Print a row."""
    cost, whole = found.cost, everything.cost
    distance = bottleneck(found.bars, everything.bars)
    print(
        f"| {title} | {cost.pairs} of {whole.pairs} | {cost.whole} "
        f"| {cost.epochs / whole.epochs:.1%} | {cost.gradients / whole.gradients:.1%} "
        f"| {distance:.2g} | {_said(found)} |",
        flush=True,
    )
    open_ = found.landscape.undecided
    # Paths of lower rungs may still fall: what is proved there is about pairs alone.
    proved = open_.proved and len(found.plan.rungs) == 1
    return Row(found.landscape.tolerance, proved, distance)


def _at_random(everything: Finished, budget: int) -> float:
    """The median distance of the bars of so many random pairs to those of all."""
    heights, losses = everything.landscape.heights, everything.landscape.losses
    distances = []
    for seed in range(DRAWS):
        drawn = random.Random(seed).sample(sorted(heights), budget)
        bars = barcode(losses, {pair: heights[pair] for pair in drawn})
        distances.append(bottleneck(bars, everything.bars))
    return statistics.median(distances)


def _said(found: Finished) -> str:
    """What the run says about the paths that it did not run."""
    open_ = found.landscape.undecided
    if open_.proved:
        return "Proved" if found.landscape.counts.skipped else "nothing left out"
    deaths = {bar.minimum: bar.death for bar in found.bars.finite}
    fall = max((deaths[m] - low for m, low in open_.death_low.items()), default=0.0)
    return f"{open_.pairs} pairs open, bars may fall by {fall:.2g}"


if __name__ == "__main__":
    main()
