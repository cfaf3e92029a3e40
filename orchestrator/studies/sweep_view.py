"""Output of a sweep: a table for the terminal, a CSV file, and a figure."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import pairwise
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
from orchestrator.studies.sweep_steps import Step, differences


def sweep_view(key: str, steps: Sequence[Step]) -> RenderableType:
    """A table of the steps of a sweep, one row for each step, and sentences on what it does not show."""
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    headings = ("minima", "proved", "lowest", "TO-score", "mean bar", "at saddles", "cost")
    table.add_column(key.rpartition(".")[2], justify="right", overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for step in steps:
        table.add_row(
            ("–" if step.value is None else str(step.value)) + (" fresh" if step.fresh else ""),
            str(step.distinct),
            str(step.proved),
            f"{step.lowest:.6g}",
            _number(step.to_score),
            _number(step.mean_bar),
            f"{step.bars_at_saddles} of {step.bars}",
            f"{step.cost:,}",
        )
    note = (
        "The first line is the run that the sweep starts from. Its minima are followed; no new ones are "
        "searched for. Minima: different ones. Cost: gradients over the training set and Hessian-vector "
        "products, without training."
    )
    return Group(table, *(Text(line) for line in remarks(key, steps)), Text(note, style="dim"))


def remarks(key: str, steps: Sequence[Step]) -> list[str]:
    """Sentences on the steps: minima that merged, other minima, and the comparison with fresh paths."""
    lines = []
    for before, step in pairwise(steps):
        at = f"{key} = {step.value}"
        if step.fresh:
            lines.append(f"At {at}, {_compared(before, step)}")
            continue
        merged = steps[0].distinct - step.distinct
        if merged > 0:
            lines.append(
                f"At {at}, {step.distinct} of {steps[0].distinct} different minima are left: the others "
                "merged with these, or ceased to exist."
            )
        if step.lowest_unlisted is not None and step.lowest_unlisted < step.lowest:
            lines.append(
                f"At {at}, descents from saddles end at {step.unlisted} minima that are not followed, the "
                f"lowest at {step.lowest_unlisted:.6g}, below all that are."
            )
    return lines


def _compared(swept: Step, fresh: Step) -> str:
    """A clause that compares a step with the same step whose paths were searched for anew."""
    higher = differences(swept, fresh)
    error = (swept.error or 0.0) + (fresh.error or 0.0)
    above, below = max(0.0, *higher), max(0.0, *(-value for value in higher))
    if max(above, below) <= error:
        bars = f"bars end as with fresh paths, within the sampling errors (± {error:.1g})"
    else:
        bars = (
            f"bars end up to {below:.1g} lower and {above:.1g} higher than with fresh paths "
            f"(± {error:.1g})"
        )
    ratio = swept.cost / fresh.cost if fresh.cost else math.inf
    return (
        f"{bars}; {swept.bars_at_saddles} of {swept.bars} end at verified saddles, with fresh paths "
        f"{fresh.bars_at_saddles} of {fresh.bars}; the sweep takes {ratio:.0%} of the cost."
    )


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
        if isinstance(step.value, int | float)
        and not isinstance(step.value, bool)
        and not step.fresh
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
    if isinstance(value, tuple):
        return " ".join("inf" if part is None else str(part) for part in value)
    return value if isinstance(value, str | int | float | None) else str(value)
