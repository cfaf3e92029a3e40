"""A run that was started, opened by its folder, its URL or its run file, and read from its store alone."""

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


@dataclass(frozen=True)
class StartedRun:
    """The configuration that the driver published: enough to read the run without its data or code."""

    plan: Plan
    evaluation: Evaluation
    provenance: dict[str, Any]
    store: Store
    location: str
    """Folder or URL of the run."""
    code_trusted: bool
    """Whether the user at hand has named the code that the stored run file names."""

    def check_code(self) -> None:
        """Refuse to run code that nobody but the store has named.

        Whoever can write to a store could make it name any function of any module.

        Raises:
            UserError: the run file in the store names `module:callable` and was not confirmed.
        """
        references = self.plan.run.code_references
        if references and not self.code_trusted:
            raise UserError(
                f"The store of {self.location} names code to run, {' and '.join(references)}: give "
                "your run file instead of the run's folder, or --trust-code if you trust everyone who "
                "can write to this store."
            )

    def landscape(self) -> Landscape:
        return reduce_run(self.plan, self.store)


def location_of(run: str) -> str:
    """The folder or URL that a RUN argument means.

    Raises:
        BadRunFile: it is a run file, and a bad one.
    """
    own = _run_file(run)
    return own.location if own else run_location("RUN", run).rstrip("/") or run


def _run_file(run: str) -> RunFile | None:
    """The run file that a RUN argument names; None for a folder, though it be called x.yaml, or a URL."""
    path = Path(run)
    if "://" in run or path.is_dir():
        return None
    is_file = path.suffix in RUN_FILE_SUFFIXES or path.is_file() or is_pipe(path)
    return load(run) if is_file else None


def folder_of(run: str) -> Path:
    """The folder of a RUN argument, for what is written beside a run.

    Raises:
        UserError: the run is on an object store.
    """
    location = location_of(run)
    if "://" in location:
        raise UserError(f"{location} is not a folder of this machine: name one with --out.")
    return Path(location)


def _code(run: RunFile) -> tuple[Spec, ...]:
    """The specifications of a run that may name code, with their options."""
    return (run.data, run.network, run.loss)


def open_run(run: str, *, own: RunFile | None = None, trust_code: bool = False) -> StartedRun:
    """Open a run that was started before.

    Args:
        run: its folder or URL, or its run file.
        own: the run file of the user at hand, where it was read from elsewhere than `run`.
        trust_code: whether the code that the store names may be run. It may where `run` is a run file
            that names the same.

    Raises:
        UserError: there is none.
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
    """The run beside it whose name is close, or how to start one."""
    folder = wanted.parent
    runs = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    close = difflib.get_close_matches(wanted.name, runs, 1)
    return f"did you mean {folder / close[0]}?" if close else "start it with `toscore run FILE`."


def config_of(plan: Plan, evaluation: Evaluation, provenance: dict[str, Any]) -> dict[str, Any]:
    """The configuration to publish, which `open_run` reads."""
    return {
        "run_file": plan.run.model_dump(mode="json", by_alias=True),
        "identity": asdict(plan.identity),
        "evaluation": asdict(evaluation),
        "problem": plan.problem.key,
        "provenance": provenance,
    }


def identity_from(values: dict[str, Any]) -> Identity:
    return Identity(
        values["data"],
        values["network"],
        tuple(values["checkpoints"]),
        values.get("loss", ""),
        values.get("fixed", ""),
    )


def status_json(run: StartedRun) -> dict[str, Any]:
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
    """What each kind of work has taken so far."""
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
