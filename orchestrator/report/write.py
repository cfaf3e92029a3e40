"""`toscore report`: write the results of a run as one HTML file, with figures for a paper and their data."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from orchestrator.analysis.escape import escape_of_run
from orchestrator.analysis.landscape import Landscape
from orchestrator.report.comparison.compared_runs import Compared
from orchestrator.report.comparison.page import (
    comparison_figures,
    comparison_page,
    comparison_table,
)
from orchestrator.report.contents import figures, points_of
from orchestrator.report.contents import left_out as left_out_figures
from orchestrator.report.figure import Figure, Table
from orchestrator.report.files import replace_file, writing_to
from orchestrator.report.minima import minima_table
from orchestrator.report.numbers import numbers
from orchestrator.report.page import Listing, NamedTable, Page, Section, render
from orchestrator.report.saddles import bar_ends_table, cost_table
from orchestrator.report.summary import summary
from orchestrator.report.terminal import left_out, something_left_out, what_is_missing
from orchestrator.runs.stored_run import StartedRun

SECTIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "barcodes": ("Barcodes", ("barcode-so-far", "barcode-0", "persistence-diagram")),
    "loops": ("Higher barcodes", ("barcode-",)),
    "basins": ("Basins", ("disconnectivity-graph", "pass-heights")),
    "paths": (
        "Paths",
        ("loss-along-paths", "test-loss-along-paths", "path-optimisation", "gradient-norms"),
    ),
    "minima": ("Minima", ("length-and-test-error", "groups-of-minima", "training-curves")),
}
"""Id of a section → its title, and prefixes of the names of its figures. A figure is in the first section
that matches."""


LEAD = ("barcode-so-far", "barcode-0")
"""Names of the figure at the top of the page: of an unfinished run the first, else the second."""

BUILT_IN = "builtin-"
"""Prefix of the fingerprint of a built-in network; the fingerprint of a user's network is a SHA-256."""

_TABLE_OF = {"barcodes": "bar-ends", "minima": "minima", "paths": "dips"}


@dataclass(frozen=True)
class Written:
    """The page and the folder of figures that were written, and the number of figures."""

    page: Path
    figures: Path
    count: int


def write_report(run: StartedRun, out: Path) -> Written:
    """Write `out/report.html` and `out/figures/` for one run.

    Raises:
        UserError: `out` cannot be written to.
    """
    with writing_to(out):
        (out / "figures").mkdir(parents=True, exist_ok=True)  # fails before the figures are drawn
    landscape = run.landscape()
    made = list(figures(run.plan, landscape, points_of(run, landscape)))
    page = render(report_page(run, landscape, made))
    with writing_to(out):
        write_figures(out / "figures", made)
        for item in _tables(landscape):
            replace_file(out / "figures" / f"{item.name}.csv", item.table.to_csv().encode())
        replace_file(out / "report.html", page.encode())
    return Written(out / "report.html", out / "figures", len(made))


def write_comparison(runs: Sequence[Compared], out: Path) -> Written:
    """Write `out/compare.html` and `out/figures/` for several runs.

    Raises:
        UserError: `out` cannot be written to.
    """
    with writing_to(out):
        (out / "figures").mkdir(parents=True, exist_ok=True)
    made = comparison_figures(runs)
    page = render(comparison_page(runs, made))
    with writing_to(out):
        write_figures(out / "figures", made)
        table = comparison_table(runs)
        replace_file(out / "figures" / "runs.csv", table.to_csv().encode())
        replace_file(out / "compare.html", page.encode())
    return Written(out / "compare.html", out / "figures", len(made))


def write_figures(folder: Path, made: Iterable[Figure]) -> None:
    """Write each figure as PNG and PDF, and its data as CSV and JSON."""
    for figure in made:
        for name, data in figure.files().items():
            replace_file(folder / name, data)


def report_page(run: StartedRun, landscape: Landscape, made: list[Figure]) -> Page:
    """The content of the report of a run."""
    tables = _tables(landscape)
    lead = next((figure for figure in made if figure.name.startswith(LEAD)), None)
    made = [figure for figure in made if figure is not lead]
    sections: list[Section] = []
    for id_, (title, names) in SECTIONS.items():
        taken = {figure.name for section in sections for figure in section.figures}
        shown = [f for f in made if f.name.startswith(names) and f.name not in taken]
        own = [item for item in tables if item.name == _TABLE_OF.get(id_)]
        text = [left_out_figures(landscape)] if id_ == "barcodes" else []
        text = [line for line in text if line]
        if shown or own or text:
            sections.append(Section(id_, title, text=text, figures=shown, tables=own))
    sections.append(Section("cost", "Cost", tables=[t for t in tables if t.name == "cost"]))
    sections.append(_failed(landscape, tables))
    sections.append(_provenance(run))
    spec = run.plan.run
    missing = "" if landscape.complete else what_is_missing(landscape)
    # A run that asks for passes from one minimum leaves out the other pairs on purpose.
    if something_left_out(landscape) and escape_of_run(spec, landscape) is None:
        missing = f"{missing} {left_out(landscape).plain}".strip()
    return Page(
        title=landscape.run,
        subtitle=f"{spec.network.name} on {spec.data.name}, seed {spec.seed}. "
        f"Every loss is that of the training set: {spec.loss.description}. Weight decay of the "
        "optimizer, where there is any, is in none of them.",
        missing=missing,
        numbers=numbers(run.plan, landscape),
        sections=sections,
        summary=summary(run.plan, landscape),
        lead=lead,
    )


def _tables(landscape: Landscape) -> list[NamedTable]:
    tables = []
    if landscape.minima:
        table = minima_table(landscape.minima, landscape.barcodes["elder"])
        tables.append(NamedTable("minima", "Table of minima", table))
    if landscape.assessment and landscape.assessment.dense and landscape.assessment.dense.dips:
        dips = landscape.assessment.dense.dips
        inside: dict[str, list[Any]] = {
            "path": ["–".join(map(str, dip.pair)) for dip in dips],
            "position": [dip.position for dip in dips],
            "loss": [dip.loss for dip in dips],
            "depth": [dip.depth for dip in dips],
        }
        title = "Dips inside paths: basins without a minimum of the run, deepest first"
        tables.append(NamedTable("dips", title, Table(inside)))
    if landscape.verified:
        title = "Ends of the finite bars"
        tables.append(NamedTable("bar-ends", title, bar_ends_table(landscape.verified)))
    if landscape.cost:
        title = (
            "Cost of each kind of work. Gradients of paths are on one minibatch each, all others on the "
            "whole training set; seconds of training include polish and verdicts"
        )
        tables.append(NamedTable("cost", title, cost_table(landscape.cost)))
    if landscape.failures:
        failures = landscape.failures
        columns: dict[str, list[Any]] = {
            "task": [f.what for f in failures],
            "kind": [f.kind for f in failures],
            "reason": [f.reason for f in failures],
        }
        tables.append(NamedTable("failures", "Failed tasks", Table(columns)))
    if landscape.damage:
        columns = {
            "object": [d.name for d in landscape.damage],
            "damage": [d.reason for d in landscape.damage],
        }
        tables.append(NamedTable("damage", "Damaged objects", Table(columns)))
    return tables


def _failed(landscape: Landscape, tables: list[NamedTable]) -> Section:
    own = [item for item in tables if item.name in ("failures", "damage")]
    text = []
    if landscape.failures:
        text.append(
            f"{len(landscape.failures)} tasks failed; their results are missing from all numbers above. "
            "toscore retry runs them again."
        )
    if landscape.damage:
        text.append(
            f"{len(landscape.damage)} objects of the store are damaged and were not read. "
            "toscore run makes them again."
        )
    budget = sum(record.outcome != "converged" for record in landscape.passes.values())
    if budget:
        text.append(
            f"{budget:,} of {len(landscape.passes):,} paths reached their limit of epochs before they "
            "converged: more epochs may lower their passes."
        )
    if not text:
        text.append("No task failed, no object is damaged, and every path converged.")
    return Section("failures", "Failures and limits", text=text, tables=own)


def _provenance(run: StartedRun) -> Section:
    facts = {}
    for name, value in run.provenance.items():
        if isinstance(value, dict):
            text = ", ".join(f"{k} {v}" for k, v in value.items() if v is not None)
        elif isinstance(value, list):
            text = ", ".join(map(str, value)) or "none"
        else:
            text = "not known" if value is None else _readable(str(value))
        facts[name.replace("_", " ")] = text
    identity = run.plan.identity
    facts["data, SHA-256"] = identity.data
    if identity.network.startswith(BUILT_IN):
        facts["network code"] = f"of toscore, version {identity.network.removeprefix(BUILT_IN)}"
    else:
        facts["network code, SHA-256"] = identity.network
    facts |= {name.replace("_", " "): str(v) for name, v in asdict(run.evaluation).items()}
    facts["store"] = run.store.objects.url
    described = run.plan.run.model_dump(mode="json", by_alias=True)
    text = yaml.safe_dump(described, sort_keys=False)
    return Section(
        "provenance",
        "Where these numbers come from",
        facts=facts,
        listings=[Listing("The run file, with every default", text)],
    )


def _readable(text: str) -> str:
    try:
        return datetime.fromisoformat(text).strftime("%d %B %Y, %H:%M:%S %Z")
    except ValueError:
        return text
