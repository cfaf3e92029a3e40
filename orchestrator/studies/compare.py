"""Compare the runs of a study and test its claims. Reads stores; writes nothing and starts no run."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import fmean, median, stdev
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.run_file.errors import BadRunFile, UserError
from orchestrator.runs.gradient_norms import gradient_norms
from orchestrator.runs.published_heights import published_heights
from orchestrator.runs.stored_run import StartedRun, open_run
from orchestrator.studies.claims import Judgement, Labels, adjusted, judge
from orchestrator.studies.measures import FROM_POINTS, FROM_PUBLISHED, MEASURES, row_of
from orchestrator.studies.study import Cell, Study
from workers.problems.data_sets import sizes
from workers.problems.networks import build, count_parameters

SEED = "seed"
"""The axis whose labels are repetitions of one experiment; the table averages over it."""


@dataclass(frozen=True)
class Row:
    """The results of one run of a study.

    Attributes:
        labels: the cell of the run in the matrix, as pairs of an axis and a label.
        run: name of the run.
        complete: whether the run has all results that its run file asks for.
        parameters: number of trained parameters of the network.
        minima, paths: numbers of finished minima and paths.
        seconds: working time of all workers on all tasks.
        measures: value of each measure by its name; None before the run is complete.
    """

    labels: Labels
    run: str
    complete: bool
    parameters: int
    minima: int
    paths: int
    seconds: float
    measures: dict[str, float | None]


@dataclass(frozen=True)
class Comparison:
    """The rows of a study, one for each cell of its matrix.

    A run that was not started has a row without results.
    """

    study: Study
    rows: tuple[Row, ...]

    @cached_property
    def judgements(self) -> tuple[Judgement, ...]:
        """The results of the tests of all claims; only complete runs are used."""
        return adjusted(
            [
                judge(
                    claim,
                    self.study.axes[claim.along] if claim.along else (),
                    {r.labels: r.measures[claim.measure] for r in self.rows if r.complete},
                )
                for claim in self.study.claims
            ]
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "study": self.study.name,
            "scale": self.study.scale,
            "complete": all(row.complete for row in self.rows),
            "runs": [{**asdict(row), "labels": dict(row.labels)} for row in self.rows],
            "claims": [judgement.to_json() for judgement in self.judgements],
        }


def compare(study: Study) -> Comparison:
    """Reduce the results of every run of a study to one row.

    Raises:
        BadRunFile: a claim names an unknown measure.
        UserError: a claim needs the loss at stored points, and the code that a store names is not trusted.
        BadReference: the network of a run cannot be loaded on this machine.
    """
    for claim in study.claims:
        known = [*MEASURES, *FROM_POINTS, *FROM_PUBLISHED]
        if claim.measure not in known:
            raise BadRunFile(
                f"{study.name} has the measure {claim.measure!r}; choose one of {', '.join(known)}."
            )
    return Comparison(study, tuple(_row(cell, study) for cell in study.cells))


def _row(cell: Cell, study: Study) -> Row:
    run, data = cell.run, sizes(cell.run.data)
    parameters = count_parameters(build(run.network, data.input_shape, data.classes))
    costly = [c.measure for c in study.claims if c.measure not in MEASURES]
    nothing: dict[str, float | None] = dict.fromkeys([*MEASURES, *costly])
    try:
        started = open_run(run.location, own=run)
    except UserError:
        return Row(cell.labels, run.name, False, parameters, 0, 0, 0.0, nothing)
    landscape = started.landscape()
    measures = nothing
    if landscape.complete:
        measures = row_of(landscape) | _from_points(started, costly)
    return Row(
        cell.labels,
        run.name,
        landscape.complete,
        parameters,
        len(landscape.minima),
        len(landscape.passes),
        sum(row.seconds or 0.0 for row in landscape.cost),
        measures,
    )


def _from_points(started: StartedRun, names: Sequence[str]) -> dict[str, float | None]:
    """The measures for which the loss is evaluated again; a norm of a gradient is the median over paths."""
    of_norms = [name for name in names if name in FROM_POINTS]
    of_heights = [name for name in names if name in FROM_PUBLISHED]
    norms = list(gradient_norms(started)) if of_norms else []
    values = {n: median(map(FROM_POINTS[n][1], norms)) if norms else None for n in of_norms}
    if of_heights:
        heights = published_heights(started)
        values |= {name: FROM_PUBLISHED[name][1](heights) for name in of_heights}
    return values


_PROVED = ("verified_minima", "barriers", "verified_ends")
"""Measures that the table leaves out if no minimum was judged and no path refined."""

_SHOWN = ("train_loss", "test_accuracy", "height", "bar", "to_score", "to_score_elder")


def view(comparison: Comparison) -> RenderableType:
    """A table of means and standard deviations over seeds, followed by the results of the tests.

    Measures are rows, so that a terminal of 80 columns has room for the six networks of the largest study.
    """
    study = comparison.study
    groups: dict[Labels, list[Row]] = {}
    for row in comparison.rows:
        key = tuple((axis, label) for axis, label in row.labels if axis != SEED)
        groups.setdefault(key, []).append(row)
    named = list(dict.fromkeys(j.claim.measure for j in comparison.judgements))
    proved = [n for n in _PROVED if any(row.measures[n] is not None for row in comparison.rows)]
    shown = [*_SHOWN, *proved, *(name for name in named if name not in (*_SHOWN, *_PROVED))]
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column(", ".join(axis for axis in study.axes if axis != SEED))
    done = {labels: [row for row in rows if row.complete] for labels, rows in groups.items()}
    for labels in groups:
        table.add_column(" ".join(label for _, label in labels) or "all", justify="right")
    table.add_row("parameters", *(f"{rows[0].parameters:,}" for rows in groups.values()))
    table.add_row("runs", *(f"{len(done[key])} of {len(rows)}" for key, rows in groups.items()))
    for name in shown:
        cells = (_mean_and_deviation(row.measures[name] for row in rows) for rows in done.values())
        table.add_row(_words(name), *cells)
    parts: list[RenderableType] = [Text(study.title, style="bold"), table]
    parts += [_claim(judgement) for judgement in comparison.judgements]
    hours = sum(row.seconds for row in comparison.rows) / 3600
    parts.append(Text(f"{hours:.2f} hours of work on workers", style="dim"))
    stores = {cell.run.store for cell in study.cells}
    if len(stores) == 1 and not any("://" in store for store in stores):
        parts.append(Text(f"Figures: toscore compare {stores.pop()}/* --out FOLDER", style="dim"))
    return Group(*parts)


def _words(measure: str) -> str:
    """The name of a measure as the table shows it."""
    return measure.replace("to_score", "TO-score").replace("_", " ")


def _mean_and_deviation(values: Iterable[float | None]) -> str:
    known = [v for v in values if v is not None]
    if not known:
        return "–"
    if len(known) == 1:
        return f"{known[0]:.3g}"
    return f"{fmean(known):.3g} ± {stdev(known):.1g}"


def _claim(judgement: Judgement) -> Text:
    claim = judgement.claim
    style = {"holds": "green", "does not hold": "red"}.get(judgement.verdict, "yellow")
    text = Text(f"{judgement.verdict}: ", style=style)
    along = f" along {claim.along}" if claim.along else ""
    text.append(f"{claim.say} ({claim.measure} {claim.expect}{along}")
    if math.isnan(judgement.p):
        text.append(")")
    else:
        text.append(
            f"; {judgement.agreeing} of {judgement.blocks} blocks agree, "
            f"τ = {judgement.tau:.2f}, p = {judgement.p:.2g}, {judgement.p_holm:.2g} by Holm)"
        )
    return text
