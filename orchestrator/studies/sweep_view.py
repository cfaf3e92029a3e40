"""Output of a sweep: a table for the terminal, a CSV file, and a figure."""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.report.figure import table_of
from orchestrator.report.files import replace_file, writing_to
from orchestrator.report.sweep_figure import sweep_figure
from orchestrator.report.write import write_figures
from orchestrator.run_file.errors import UserError
from orchestrator.runs.stored_run import StartedRun
from orchestrator.studies.sweep import Step


def sweep_view(key: str, steps: Sequence[Step]) -> RenderableType:
    """A table of the steps of a sweep, one row for each step."""
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for heading in (
        key,
        "minima",
        "distinct",
        "proved",
        "lowest loss",
        "TO-score",
        "mean bar",
        "at saddles",
        "gradients",
        "products",
    ):
        table.add_column(heading, justify="right", overflow="fold")
    for step in steps:
        table.add_row(
            "–" if step.value is None else str(step.value),
            str(step.minima),
            str(step.distinct),
            str(step.proved),
            f"{step.lowest:.6g}",
            _number(step.to_score),
            _number(step.mean_bar),
            f"{step.bars_at_saddles} of {step.bars}",
            f"{step.gradients:,}",
            f"{step.products:,}",
        )
    note = (
        "The first line is the run that the sweep starts from. Its minima are followed; no new ones are "
        "searched for. Gradients and products: all but those of training."
    )
    return Group(table, Text(note, style="dim"))


def write_sweep(
    key: str, steps: Sequence[Step], base: StartedRun, out: Path | None
) -> Iterator[Path]:
    """Write `steps.csv` and, if two or more values are numbers, the figure. Yields each file once written.

    Args:
        key: the swept key of the run file.
        steps: the steps of the sweep.
        base: the first run of the sweep.
        out: folder to write to; by default the folder of the sweep.

    Raises:
        UserError: the folder cannot be written to, or the sweep is on an object store and `out` is None.
    """
    run = base.plan.run
    if out is None and "://" in run.store:
        raise UserError(f"{run.store} is not a folder of this machine: name one with --out.")
    folder = out or Path(f"{run.store.rstrip('/')}/{run.name}-sweep")
    names = [field.name for field in fields(Step)]
    rows = [tuple(_cell(getattr(step, name)) for name in names) for step in steps]
    numbers = [
        (float(step.value), step.to_score, step.mean_bar, step.lowest)
        for step in steps
        if isinstance(step.value, int | float) and not isinstance(step.value, bool)
    ]
    figure = sweep_figure(key, numbers)
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / "steps.csv", table_of(names, rows).to_csv().encode())
        yield folder / "steps.csv"
        if figure is not None:
            write_figures(folder, [figure])
            yield folder / "sweep.png"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _cell(value: Any) -> Any:
    return value if isinstance(value, str | int | float | None) else str(value)
