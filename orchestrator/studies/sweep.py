"""`toscore sweep`: repeat a finished run for other values of one key, starting from its minima and paths.

`toscore sweep runs/demo "loss.ridge=[2.0e-3, 4.0e-3]"` makes one run for each value. Each run starts from the
minima of the previous run and polishes them on the new loss instead of training new ones. Its paths start
from those of the previous run, with their ends moved to the new minima. They are already relaxed, so they
take at most `EPOCHS` epochs. A path that was led over a saddle still has the saddle as one of
its points, so the search for the new saddle starts close to it and takes at most `ROUNDS` rounds
(`reconverge_landscape` of topsearch does the same with exact saddles and connections). A sweep tracks
existing minima: it does not search for minima that exist only at the new value, and two minima that merge
count as one (`Step.distinct`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from orchestrator.analysis.landscape import Landscape
from orchestrator.launch import LaunchOptions, execute
from orchestrator.run_file.errors import BadRunFile, UserError
from orchestrator.run_file.models import RunFile
from orchestrator.run_file.reading import assign, parse, parse_override
from orchestrator.runs.stored_run import StartedRun, open_run
from orchestrator.scheduling.outcome import Ending
from topo_core.homology.bar_ends import EndKind

_KEPT = ("name", "store", "minima", "pairs", "reuse")
"""Keys of the run file that the sweep sets, so that they cannot be swept."""

EPOCHS = 30
"""Largest number of epochs of a moved path: a tenth of the default for exact gradients."""

ROUNDS = 2
"""Largest number of rounds in which a moved path is led over its saddle: one converges to the moved saddle,
and the other relaxes the path beside it."""

SAME = 1e-9
"""Relative difference of losses up to which two minima of one run count as the same, because sums in
float64 differ by rounding."""


@dataclass(frozen=True)
class Step:
    """The results of one run of a sweep: a row of its table.

    Attributes:
        value: value of the key; None for the first run of the sweep if its run file does not set the key.
        run: name of the run.
        minima: number of minima.
        distinct: number of distinct losses among the minima; minima that merged count once.
        proved: number of minima that are proved to be minima.
        lowest: lowest loss of a minimum.
        to_score: TO-score by the elder rule; None if some minima are not connected.
        mean_bar: mean length of the finite bars, elder rule; None if there are none.
        bars: number of finite bars, without those that have no barrier.
        bars_at_saddles: number of finite bars that end at a verified saddle.
        gradients: gradient evaluations of all minima (polish and verdicts), paths and saddles; those of paths
            are on minibatches, and gradients of training are not counted.
        products: Hessian-vector products of all minima and saddles.
        seconds: working time of all workers.
    """

    value: Any
    run: str
    minima: int
    distinct: int
    proved: int
    lowest: float
    to_score: float | None
    mean_bar: float | None
    bars: int
    bars_at_saddles: int
    gradients: int
    products: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def parse_sweep(text: str) -> tuple[str, list[Any]]:
    """Split `KEY=[value, value]` into the key and its values.

    Raises:
        BadRunFile: the text has another form, or the key is one that a sweep sets itself.
    """
    key, values = parse_override(text)
    if not isinstance(values, list) or not values:
        raise BadRunFile(f"{key} has no list of values: write {key}=[VALUE, VALUE].")
    if key.split(".")[0] in _KEPT:
        raise BadRunFile(
            f"{key} cannot be swept: a sweep sets {', '.join(_KEPT)} itself. Sweep a key of loss, data, "
            "objective or paths."
        )
    return key, values


def sweep(
    base: StartedRun,
    key: str,
    values: Sequence[Any],
    *,
    address: str | None = None,
    in_process: bool = False,
    quiet: bool = False,
) -> Iterator[Step]:
    """Run a sweep, or continue it where it stopped. Yields `base` first, then one step for each value.

    Args:
        base: a complete run whose minima and path points are stored.
        key: key of the run file, with dots.
        values: values of the key; each run starts from the results of the previous one.
        address: address of a running Ray cluster; None starts a local one.
        in_process: run all tasks in this process, without Ray.
        quiet: print nothing.

    Raises:
        BadRunFile: a value of the key is invalid.
        UserError: a run cannot start, or is not complete.
        KeyboardInterrupt: a run was interrupted; a later sweep continues it.
    """
    landscape = _complete(base)
    yield step_of(landscape, _present(base.plan.run, key))
    before = base
    for value in values:
        run = next_run(before, landscape, base, key, value)
        ended = execute(run, LaunchOptions(address, in_process, quiet))
        if ended.outcome.ending is Ending.INTERRUPTED:
            raise KeyboardInterrupt
        before = open_run(ended.location, own=run)
        landscape = _complete(before)
        yield step_of(landscape, value)


def next_run(
    before: StartedRun, landscape: Landscape, base: StartedRun, key: str, value: Any
) -> RunFile:
    """The run file for one value of the key. Reads no store.

    Args:
        before: the previous run, whose minima and paths the new run starts from.
        landscape: the complete results of `before`.
        base: the first run of the sweep.
        key: key of the run file, with dots.
        value: value of the key.

    Raises:
        BadRunFile: the value is invalid.
    """
    values = deepcopy(base.plan.run.model_dump(mode="json", by_alias=True))
    if values.get("objective"):  # its data and network are derived from the objective
        values = {k: v for k, v in values.items() if k not in ("data", "network")}
    assign(values, key, value)
    given = base.plan.run
    training = {**values["minima"]["training"], "epochs": 0, "polish": "on"}
    values |= {
        "name": _label(key, value),
        "store": f"{given.store.rstrip('/')}/{given.name}-sweep",
        "reuse": [],
        "minima": {
            "count": 0,
            "restarts": {"from": _files(before, landscape), "count": 1, "spread": [0.0]},
            "training": training,
        },
        "pairs": {"rule": "list", "pairs": [list(pair) for pair in sorted(landscape.passes)]},
        "paths": {
            **values["paths"],
            "start": "moved",
            "warm_from": before.location,
            "epochs": min(EPOCHS, given.paths.epochs or EPOCHS),
        },
        "saddles": {**values["saddles"], "rounds": min(ROUNDS, given.saddles.rounds)},
        "keep_paths": "all",
    }
    return parse(values)


def step_of(landscape: Landscape, value: Any) -> Step:
    """Reduce the results of a run to one step of the sweep.

    Args:
        landscape: the complete results of the run.
        value: value of the swept key.
    """
    bars = landscape.barcodes["elder"].finite
    score = landscape.to_scores["elder"]
    minima = [record for _, record in sorted(landscape.minima.items())]
    losses = sorted(record.loss for record in minima)
    apart = sum(b - a > SAME * abs(b) for a, b in pairwise(losses))
    verified = landscape.verified.ends if landscape.verified else ()
    return Step(
        value=value,
        run=landscape.run,
        minima=len(minima),
        distinct=1 + apart,
        proved=sum(record.verdict == "minimum" for record in minima),
        lowest=losses[0],
        to_score=score if score < float("inf") else None,
        mean_bar=sum(bar.length for bar in bars) / len(bars) if bars else None,
        bars=len(bars) - sum(end.kind is EndKind.NO_BARRIER for end in verified),
        bars_at_saddles=sum(end.kind is EndKind.SADDLE for end in verified),
        gradients=sum(row.gradients or 0 for row in landscape.cost),
        products=sum(row.products or 0 for row in landscape.cost),
        seconds=sum(row.seconds or 0.0 for row in landscape.cost),
    )


def _complete(run: StartedRun) -> Landscape:
    landscape = run.landscape()
    if not landscape.complete:
        raise UserError(
            f"{landscape.run} is not complete, and a sweep starts from finished minima and paths: "
            "`toscore run` continues it."
        )
    return landscape


def _files(run: StartedRun, landscape: Landscape) -> list[str]:
    """Paths or URLs of the stored minima of a run, by increasing number; they serve as checkpoints."""
    location = run.store.objects.url.rstrip("/").removeprefix("file://")
    return [f"{location}/{record.object}" for _, record in sorted(landscape.minima.items())]


def _present(run: RunFile, key: str) -> Any:
    """The value of a key, with dots, in a run file; None if the run file does not have the key."""
    here: Any = run.model_dump(mode="json", by_alias=True)
    for part in key.split("."):
        here = here.get(part) if isinstance(here, Mapping) else None
    return here


def _label(key: str, value: Any) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", f"{key.rpartition('.')[2]}-{value}").strip("-.")
