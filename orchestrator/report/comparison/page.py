"""`toscore compare`: compare several runs, as a page and in the terminal."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Group as Rows
from rich.console import RenderableType
from rich.table import Table as TextTable
from rich.text import Text

from orchestrator.analysis.landscape import Landscape
from orchestrator.report.comparison.barcodes_side_by_side import barcodes_figure
from orchestrator.report.comparison.compared_runs import Compared
from orchestrator.report.comparison.distances import (
    distances,
    distances_figure,
    tree_distances,
    tree_distances_figure,
)
from orchestrator.report.comparison.matched_pairs import pairs_figure
from orchestrator.report.comparison.scores_against_size import scores_figure
from orchestrator.report.figure import Figure, Table
from orchestrator.report.groups import groups_figure, groups_of
from orchestrator.report.page import NamedTable, Number, Page, Section
from orchestrator.report.style import number
from orchestrator.report.terminal import what_is_missing
from topo_core.homology.bar_ends import EndKind


def comparison_figures(runs: Sequence[Compared]) -> list[Figure]:
    """The figures that have something to show for these runs."""
    groups = [
        group
        for item in runs
        for group in groups_of(item.run.plan, item.landscape, prefix=item.label)
    ]
    drawn = [
        barcodes_figure(runs),
        scores_figure(runs),
        pairs_figure(runs),
        groups_figure(groups),
        distances_figure(runs),
        tree_distances_figure(runs),
    ]
    return [figure for figure in drawn if figure is not None]


def comparison_table(runs: Sequence[Compared]) -> Table:
    """A table with one row for each run."""
    return Table(
        {
            "run": [item.label for item in runs],
            "network": [_spec(item.network.canonical()) for item in runs],
            "data": [_spec(item.run.plan.run.data.canonical()) for item in runs],
            "parameters": [item.parameters for item in runs],
            "minima": [len(item.landscape.minima) for item in runs],
            "paths": [item.landscape.counts.done for item in runs],
            "complete": ["yes" if item.landscape.complete else "no" for item in runs],
            "lowest loss": [min(item.landscape.losses.values()) for item in runs],
            "TO-score (elder)": [item.score for item in runs],
            "TO-score (direct)": [item.landscape.to_scores["direct"] for item in runs],
            "bars at verified saddles": [_verified(item.landscape) for item in runs],
        }
    )


def _verified(landscape: Landscape) -> str:
    """How many finite bars (elder rule) end at verified saddles; a dash if no path was refined."""
    verified = landscape.verified
    if verified is None:
        return "–"
    return f"{verified.count(EndKind.SADDLE)} of {len(verified.ends)}"


def _spec(values: dict[str, Any]) -> str:
    options = ", ".join(f"{k} {v}" for k, v in values.items() if k != "name")
    return f"{values['name']} ({options})" if options else str(values["name"])


def comparison_page(runs: Sequence[Compared], made: Sequence[Figure]) -> Page:
    """The content of the page of a comparison."""
    missing = [
        f"{item.label}: {what_is_missing(item.landscape)}"
        for item in runs
        if not item.landscape.complete
    ]
    data = {item.run.plan.identity.data for item in runs}
    different = (
        ""
        if len(data) == 1
        else "The runs are on different data: their losses are not comparable. "
    )
    return Page(
        title=" · ".join(item.label for item in runs),
        subtitle="Comparison of several runs by their training losses.",
        missing=different + " ".join(missing),
        numbers=[Number(item.label, number(item.score), "TO-score, elder rule") for item in runs],
        sections=[
            Section("barcodes-section", "Barcodes", figures=_named(made, "barcodes")),
            *(
                Section(id_, title, figures=_named(made, *names))
                for id_, title, names in (
                    ("size", "Size", ("score-against-size",)),
                    ("pairs", "Matched pairs", ("matched-pairs",)),
                    ("groups", "Groups", ("groups-of-minima",)),
                )
                if _named(made, *names)
            ),
            Section(
                "distances",
                "Distances",
                figures=_named(made, "bottleneck-distances", "merge-tree-distances"),
            ),
            Section(
                "runs", "The runs", tables=[NamedTable("runs", "Runs", comparison_table(runs))]
            ),
        ],
    )


def _named(made: Sequence[Figure], *names: str) -> list[Figure]:
    return [figure for figure in made if figure.name in names]


def comparison_view(runs: Sequence[Compared]) -> RenderableType:
    """The comparison for a terminal: a table of the runs, and the distances of their barcodes and merge
    trees."""
    table = TextTable(box=None, pad_edge=False, padding=(0, 1))
    columns = (
        "run",
        "parameters",
        "minima",
        "lowest loss",
        "TO-score (elder)",
        "TO-score (direct)",
        "bars at verified saddles",
    )
    values = comparison_table(runs)
    for name in columns:
        table.add_column(name, justify="left" if name == "run" else "right")
    for row in zip(*(values.columns[name] for name in columns), strict=True):
        table.add_row(*(number(c) if isinstance(c, float) else str(c) for c in row))
    incomplete = [
        Text(f"{item.label}: {what_is_missing(item.landscape)}", style="yellow")
        for item in runs
        if not item.landscape.complete
    ]
    apart = [_distances_view("bottleneck distances of the barcodes", runs, distances(runs))]
    if len({len(item.landscape.minima) for item in runs}) < len(runs):
        trees = tree_distances(runs)
        apart.append(_distances_view("distances of the merge trees, upper bounds", runs, trees))
    return Rows(*incomplete, table, *apart)


def _distances_view(title: str, runs: Sequence[Compared], matrix: np.ndarray) -> TextTable:
    """A matrix of distances, with a dash for two runs that have none."""
    apart = TextTable(box=None, pad_edge=False, padding=(0, 1), title=title)
    apart.title_justify = "left"
    apart.add_column("")
    for item in runs:
        apart.add_column(item.label, justify="right")
    for item, row in zip(runs, matrix, strict=True):
        apart.add_row(item.label, *("–" if math.isnan(v) else number(float(v)) for v in row))
    return apart
