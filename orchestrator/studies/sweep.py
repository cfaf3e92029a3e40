"""A finished run under other values of one key: its minima and paths go on from the old ones.

`toscore sweep runs/demo "loss.ridge=[2.0e-3, 4.0e-3]"` makes one run for each value. Every run begins with
the minima of the run before it, which are polished on the new loss instead of trained anew, and with its
paths, whose ends are moved to the new minima. That saves the training and the first paths; paths take the
steps that their settings say. A sweep follows the old minima: minima that exist for the new value only are
not searched for, and two that merge become one.
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
"""Keys that a sweep sets itself."""

SAME = 1e-9
"""Relative difference of losses up to which two minima of one step count as one."""


@dataclass(frozen=True)
class Step:
    """A run of a sweep, reduced.

    Attributes:
        value: of the key; None for the run that the sweep begins with, where it does not name the key.
        run: its name.
        minima: how many it has.
        distinct: how many of their losses differ: minima that merged count once.
        proved: how many minima are proved to be minima.
        lowest: the lowest loss.
        to_score: by the elder rule; None where minima are not connected.
        mean_bar: mean length of the finite bars, elder rule; None without any.
        bars: number of finite bars.
        bars_at_saddles: how many of them end at a verified saddle.
        gradients: over the whole training set or a minibatch, of all its minima and paths.
        seconds: of work on workers.
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
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def parse_sweep(text: str) -> tuple[str, list[Any]]:
    """`KEY=[value, value]` as the key and its values.

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
    """Carry out a sweep, or go on where it stopped; the first step is the run that it begins with.

    Args:
        base: a finished run whose minima and paths are kept.
        key: of the run file.
        values: its values; each run begins with the results of the one before.
        address: a Ray cluster that is running, or None for one of our own.
        in_process: without Ray.
        quiet: print nothing.

    Raises:
        BadRunFile: a value is not possible.
        UserError: a run cannot start, or is not complete.
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
    """The run file of one value. Reads no store.

    Args:
        before: the run whose minima and paths it begins with.
        landscape: of that run, complete.
        base: the run that the sweep begins with.
        key: of the run file.
        value: of the key.

    Raises:
        BadRunFile: the value is not possible.
    """
    values = deepcopy(base.plan.run.model_dump(mode="json", by_alias=True))
    if values.get("objective"):  # what stands for it as data and network follows from it
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
        "paths": {**values["paths"], "start": "moved", "warm_from": before.location},
        "keep_paths": "all",
    }
    return parse(values)


def step_of(landscape: Landscape, value: Any) -> Step:
    """One row of the table."""
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
        bars=len(bars),
        bars_at_saddles=sum(end.kind is EndKind.SADDLE for end in verified),
        gradients=sum(record.judging_gradients for record in minima)
        + sum(record.gradient_evaluations for record in landscape.passes.values()),
        seconds=sum(r.seconds for r in (*minima, *landscape.passes.values())),
    )


def _complete(run: StartedRun) -> Landscape:
    landscape = run.landscape()
    if not landscape.complete:
        raise UserError(
            f"{landscape.run} is not complete, and a sweep begins with finished minima and paths: "
            "`toscore run` goes on with it."
        )
    return landscape


def _files(run: StartedRun, landscape: Landscape) -> list[str]:
    """Checkpoints of the minima of a run, in their order: objects of its store."""
    location = run.store.objects.url.rstrip("/").removeprefix("file://")
    return [f"{location}/{record.object}" for _, record in sorted(landscape.minima.items())]


def _present(run: RunFile, key: str) -> Any:
    """The value that a run has for a key; None where it does not name it."""
    here: Any = run.model_dump(mode="json", by_alias=True)
    for part in key.split("."):
        here = here.get(part) if isinstance(here, Mapping) else None
    return here


def _label(key: str, value: Any) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", f"{key.rpartition('.')[2]}-{value}").strip("-.")
