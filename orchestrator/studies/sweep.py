"""`toscore sweep`: repeat a finished run for other values of one key, starting from its minima and paths.

`toscore sweep runs/demo "loss.ridge=[2.0e-3, 4.0e-3]"` makes one run for each value. Each run starts from the
minima of the previous run and polishes them on the new loss instead of training new ones. Its paths start
from those of the previous run, with their ends moved to the new minima (`workers.execution.continued_paths`).
If the highest point of a path was a verified saddle, the saddle of the new loss is searched for from the old
one, and the path is led over it; nothing else is relaxed unless it is higher (`reconverge_landscape` of
topsearch does the same). Other paths are optimised for at most `EPOCHS` epochs.

A sweep follows existing minima: it does not search for minima that exist only at the new value. Each step
reports how many different minima are left, and which other minima descents from saddles reached (`Step`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from orchestrator.analysis.landscape import Landscape
from orchestrator.launch import LaunchOptions, execute
from orchestrator.run_file.errors import BadRunFile, UserError
from orchestrator.run_file.models import RunFile
from orchestrator.run_file.reading import assign, parse, parse_override
from orchestrator.runs.stored_run import StartedRun, open_run
from orchestrator.scheduling.outcome import Ending
from orchestrator.studies.sweep_steps import Step, step_of

_KEPT = ("name", "store", "minima", "pairs", "reuse")
"""Keys of the run file that the sweep sets, so that they cannot be swept."""

EPOCHS = 30
"""Largest number of epochs of a moved path: a tenth of the default for exact gradients."""

ROUNDS = 2
"""Largest number of rounds that relax the pieces of a moved path beside its saddles."""


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
    fresh: bool = False,
) -> Iterator[Step]:
    """Run a sweep, or continue it where it stopped. Yields `base` first, then one step for each value.

    Args:
        base: a complete run whose minima and path points are stored.
        key: key of the run file, with dots.
        values: values of the key; each run starts from the results of the previous one.
        address: address of a running Ray cluster; None starts a local one.
        in_process: run all tasks in this process, without Ray.
        quiet: print nothing.
        fresh: after each run of the sweep, run the paths between its minima anew, as in the first run.

    Raises:
        BadRunFile: a value of the key is invalid.
        UserError: a run cannot start, or is not complete.
        KeyboardInterrupt: a run was interrupted; a later sweep continues it.
    """
    landscape = _complete(base)
    yield step_of(base, landscape, _present(base.plan.run, key))
    options = LaunchOptions(address, in_process, quiet)
    before = base
    for value in values:
        wanted = next_run(before, landscape, base, key, value)
        run = _executed(wanted, options)
        landscape = _complete(run)
        yield step_of(run, landscape, value)
        if fresh:
            again = _executed(fresh_run(wanted, base, run.location), options)
            yield step_of(again, _complete(again), value, fresh=True)
        before = run


def _executed(wanted: RunFile, options: LaunchOptions) -> StartedRun:
    """Execute a run file and open its run.

    Raises:
        KeyboardInterrupt: the run was interrupted.
    """
    ended = execute(wanted, options)
    if ended.outcome.ending is Ending.INTERRUPTED:
        raise KeyboardInterrupt
    return open_run(ended.location, own=wanted)


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


def fresh_run(swept: RunFile, base: StartedRun, location: str) -> RunFile:
    """The run file of the same minima whose paths are searched for anew, as in the first run. Pure.

    Args:
        swept: a run file of `next_run`.
        base: the first run of the sweep.
        location: of the swept run, whose minima are copied.
    """
    values = swept.model_dump(mode="json", by_alias=True)
    if values.get("objective"):
        values = {k: v for k, v in values.items() if k not in ("data", "network")}
    first = base.plan.run.model_dump(mode="json", by_alias=True)
    name = f"{swept.name}-fresh"
    return parse(
        {
            **values,
            "name": name,
            "reuse": [location],
            "paths": first["paths"],
            "saddles": first["saddles"],
        }
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
