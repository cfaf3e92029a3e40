"""Open a run that was started before, by its folder, its URL or its run file, and read it from its store."""

import difflib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.analysis.landscape import Landscape
from orchestrator.analysis.reduction import reduce_run
from orchestrator.planning.plan import Identity, Plan
from orchestrator.run_file.errors import UserError
from orchestrator.run_file.locations import run_location
from orchestrator.run_file.models import RunFile
from orchestrator.run_file.reading import is_pipe, load, parse
from workers.problems.evaluation import Evaluation
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store
from workers.tasks.specs import Spec

RUN_FILE_SUFFIXES = {".yaml", ".yml"}
"""Suffixes by which a RUN argument counts as a run file even if the file does not exist."""


@dataclass(frozen=True)
class StartedRun:
    """A run, with the published configuration: enough to read it without its data or code."""

    plan: Plan
    evaluation: Evaluation
    provenance: dict[str, Any]
    store: Store
    location: str
    """Folder or URL of the run."""
    code_trusted: bool
    """Whether the code that the stored run file names may be run: the user trusts it, or names the same
    code."""

    def check_code(self) -> None:
        """Refuse to import code that only the store names. Call this before loading the data or the network.

        Anyone who can write to a store could put any `module:callable` into its run file.

        Raises:
            UserError: the stored run file names code, and the code is not trusted.
        """
        references = self.plan.run.code_references
        if references and not self.code_trusted:
            raise UserError(
                f"The store of {self.location} names code to run, {' and '.join(references)}: give "
                "your run file instead of the run's folder, or --trust-code if you trust everyone who "
                "can write to this store."
            )

    def landscape(self) -> Landscape:
        """Read the results from the store as it is now."""
        return reduce_run(self.plan, self.store)


def location_of(run: str) -> str:
    """The folder or URL of the run that a RUN argument names.

    Raises:
        BadRunFile: the argument is a run file that is invalid.
    """
    own = _run_file(run)
    return own.location if own else run_location("RUN", run).rstrip("/") or run


def _run_file(run: str) -> RunFile | None:
    """The run file that a RUN argument names; None for a URL or a folder, even a folder named `x.yaml`."""
    path = Path(run)
    if "://" in run or path.is_dir():
        return None
    is_file = path.suffix in RUN_FILE_SUFFIXES or path.is_file() or is_pipe(path)
    return load(run) if is_file else None


def folder_of(run: str) -> Path:
    """The folder of the run that a RUN argument names, to write output files into.

    Raises:
        UserError: the run is on an object store.
    """
    location = location_of(run)
    if "://" in location:
        raise UserError(f"{location} is not a folder of this machine: name one with --out.")
    return Path(location)


def _code(run: RunFile) -> tuple[Spec, ...]:
    """The parts of a run file that may name user code, with their options."""
    return (run.data, run.network, run.loss)


def open_run(run: str, *, own: RunFile | None = None, trust_code: bool = False) -> StartedRun:
    """Open a run that was started before.

    Args:
        run: the folder or URL of the run, or its run file.
        own: the user's run file, if `run` is not its path.
        trust_code: whether the code that the store names may be run. It may also be run if the user's run
            file names the same code.

    Raises:
        UserError: there is no run.
    """
    own = own or _run_file(run)
    location = location_of(run)
    if "://" not in location and not Path(location).is_dir():
        raise UserError(f"There is no run at {location}: {_other_run(Path(location))}")
    store = Store(open_objects(location))
    config = store.latest_config()
    if config is None:
        raise UserError(f"{location} holds no run: start it with `toscore run FILE`.")
    stored = parse(config["run_file"])
    return StartedRun(
        plan=Plan(stored, identity_from(config["identity"])),
        evaluation=Evaluation(**config["evaluation"]),
        provenance=config["provenance"],
        store=store,
        location=location,
        code_trusted=trust_code or (own is not None and _code(own) == _code(stored)),
    )


def _other_run(wanted: Path) -> str:
    """A hint for a missing run: a run in the same folder with a similar name, or how to start one."""
    folder = wanted.parent
    runs = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    close = difflib.get_close_matches(wanted.name, runs, 1)
    return f"did you mean {folder / close[0]}?" if close else "start it with `toscore run FILE`."


def config_of(
    plan: Plan, evaluation: Evaluation, device_type: str, provenance: dict[str, Any]
) -> dict[str, Any]:
    """The configuration that the driver publishes and `open_run` reads, as JSON values."""
    return {
        "run_file": plan.run.model_dump(mode="json", by_alias=True),
        "identity": asdict(plan.identity),
        "evaluation": asdict(evaluation),
        "device_type": device_type,
        "problem": plan.problem.key,
        "provenance": provenance,
    }


def identity_from(values: dict[str, Any]) -> Identity:
    """The identity in a published configuration; older configurations lack `loss` and `fixed`."""
    return Identity(
        values["data"],
        values["network"],
        tuple(values["checkpoints"]),
        values.get("loss", ""),
        values.get("fixed", ""),
    )


def status_json(run: StartedRun) -> dict[str, Any]:
    """The output of `toscore status --json`."""
    landscape = run.landscape()
    full = landscape.to_json()
    return {
        "run": landscape.run,
        "complete": landscape.complete,
        "minima": {"total": landscape.minima_expected, "done": len(landscape.minima)},
        "pairs": full["pairs"],
        "simplices": {"total": landscape.simplices_expected, "done": len(landscape.simplices)},
        "saddles": full["saddles"],
        "bars_end_at": full["verified"]["counts"] if "verified" in full else None,
        "cost": [row.to_json() for row in landscape.cost],
        "failures": full["failures"],
        "damaged": full["damaged"],
        "provenance": run.provenance,
    }


def _cost_view(landscape: Landscape) -> Table:
    """A table of the cost so far, one row for each kind of work."""
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column("work so far")
    for name in ("tasks", "epochs", "gradients", "products", "seconds"):
        table.add_column(name, justify="right")
    for row in landscape.cost:
        numbers = (row.tasks, row.epochs, row.gradients, row.products)
        seconds = "" if row.seconds is None else f"{row.seconds:,.0f}"
        table.add_row(row.work, *("" if n is None else f"{n:,}" for n in numbers), seconds)
    return table


def status_view(run: StartedRun) -> RenderableType:
    """The output of `toscore status` for a terminal."""
    landscape = run.landscape()
    counts = landscape.counts
    state = "complete" if landscape.complete else "not complete"
    table = Table.grid(padding=(0, 2))
    table.add_row("minima", f"{len(landscape.minima)} of {landscape.minima_expected}")
    skipped = f", {counts.skipped} not asked for" if counts.skipped else ""
    table.add_row("paths", f"{counts.done} of {counts.total}{skipped}")
    if landscape.simplices_expected:
        table.add_row("simplices", f"{len(landscape.simplices)} of {landscape.simplices_expected}")
    if landscape.saddles_expected:
        bound = "at most " if counts.open else ""
        table.add_row("saddles", f"{landscape.saddles_done} of {bound}{landscape.saddles_expected}")
    parts: list[RenderableType] = [Text(f"{landscape.run}: {state}", style="bold"), table]
    if landscape.cost:
        parts.append(_cost_view(landscape))
    for failure in landscape.failures:
        parts.append(
            Text(f"{failure.what} failed: {failure.kind}: {failure.reason}", style="yellow")
        )
    if landscape.failures:
        parts.append(Text("`toscore retry` runs these again.", style="dim"))
    for damage in landscape.damage:
        parts.append(Text(f"damaged: {damage.name}: {damage.reason}", style="red"))
    return Group(*parts)
