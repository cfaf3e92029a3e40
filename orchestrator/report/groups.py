"""Figure of minima grouped by training settings, with the passes inside each group (the paper's Figure 5)."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Drawing

from orchestrator.analysis.landscape import Landscape
from orchestrator.planning.plan import Plan
from orchestrator.report.figure import Figure, table_of
from orchestrator.report.style import (
    FIRST,
    GRID,
    INK,
    MUTED,
    NARROW,
    WIDE,
    log_axis,
    number,
    spans_decades,
)
from topo_core.random_streams import generator
from workers.tasks.minimum_tasks import TrainMinimum


@dataclass(frozen=True)
class Group:
    """Minima that were trained with the same settings.

    Attributes:
        label: the settings that distinguish the group from the others.
        losses: losses of its minima.
        heights: heights of the passes between two of its minima.
        test_errors: test error of each of its minima, a share of the test examples; unknown ones are left
            out.
    """

    label: str
    losses: tuple[float, ...]
    heights: tuple[float, ...]
    test_errors: tuple[float, ...]


def groups_of(plan: Plan, landscape: Landscape, prefix: str = "") -> list[Group]:
    """The groups of a run, in the order of its minima: one for each recipe, and one of imported minima.

    Args:
        plan: the plan of the run.
        landscape: its results.
        prefix: put before each label, to tell the groups of several runs apart.
    """
    settings: dict[int, dict[str, Any]] = {
        index: _flat(asdict(task.settings)) if isinstance(task, TrainMinimum) else {}
        for index, task in enumerate(plan.minima)
    }
    distinct: list[dict[str, Any]] = []
    for values in settings.values():
        if values not in distinct:
            distinct.append(values)
    trained = [values for values in distinct if values]
    varied = [
        key
        for key in dict.fromkeys(key for values in trained for key in values)
        if len({repr(values.get(key)) for values in trained}) > 1
    ]
    result = []
    for values in distinct:
        chosen = {index for index, own in settings.items() if own == values}
        label = ", ".join(
            f"{key.rpartition('.')[2]} {values[key]}" for key in varied if key in values
        )
        whose = label or ("imported" if not values else "")
        result.append(
            _group(landscape, chosen, " ".join(part for part in (prefix, whose) if part) or "all")
        )
    return result


def _group(landscape: Landscape, chosen: set[int], label: str) -> Group:
    records = [record for index, record in sorted(landscape.minima.items()) if index in chosen]
    return Group(
        label,
        tuple(r.loss for r in records),
        tuple(h for pair, h in landscape.heights.items() if chosen.issuperset(pair)),
        tuple(1 - r.test_accuracy for r in records if math.isfinite(r.test_accuracy)),
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def groups_figure(groups: Sequence[Group]) -> Figure | None:
    """Heights of the passes inside each group; None if fewer than two groups have a pass."""
    shown = [group for group in groups if group.heights]
    if len(shown) < 2:
        return None
    rows = [
        *((g.label, "pass", v) for g in shown for v in g.heights),
        *((g.label, "minimum", v) for g in shown for v in g.losses),
        *((g.label, "test error", v) for g in shown for v in g.test_errors),
    ]
    medians = "; ".join(
        f"{g.label}: median height {number(float(np.median(g.heights)))} of {len(g.heights)} passes"
        for g in shown
    )
    errors = "; ".join(
        f"{g.label}: {100 * float(np.mean(g.test_errors)):.1f} %" for g in shown if g.test_errors
    )
    return Figure(
        name="groups-of-minima",
        title="Groups of minima",
        caption=(
            "Circles are the heights of the passes between two minima of one group, dashes the losses of its "
            f"minima, and lines the medians of the heights. {medians}."
            + (f" Mean test errors: {errors}." if errors else "")
        ),
        alt=f"Pass heights of {len(shown)} groups of minima. {medians}.",
        table=table_of(("group", "what", "value"), rows),
        draw=partial(_draw, shown),
    )


def _draw(groups: Sequence[Group], wide: bool) -> Drawing:
    figure = Drawing(figsize=(WIDE if wide else NARROW, 3.8))
    ax = figure.subplots()
    draw = generator("jitter", len(groups))
    for column, group in enumerate(groups):
        for values, mark, colour in ((group.heights, "o", FIRST), (group.losses, "_", MUTED)):
            # Random horizontal offsets separate marks of equal value.
            spread = np.random.default_rng(draw.initial_seed() + column).uniform(
                -0.22, 0.22, len(values)
            )
            ax.plot(
                column + spread, values, mark, color=colour, ms=4, alpha=0.7, fillstyle="none",
                rasterized=len(values) > 500,
            )  # fmt: skip
        median = float(np.median(group.heights))
        ax.plot([column - 0.3, column + 0.3], [median, median], color=INK, lw=1.6)
        if column:
            ax.axvline(column - 0.5, color=GRID, lw=1)
    ax.set_xlim(-0.5, len(groups) - 0.5)
    labels = [wrapped(group.label, 24 if wide else 14) for group in groups]
    ax.set_xticks(range(len(groups)), labels)
    ax.tick_params(axis="x", length=0)
    ax.set_ylabel("training loss")
    ax.grid(axis="y")
    ax.set_axisbelow(True)
    if spans_decades([v for g in groups for v in (*g.heights, *g.losses)]):
        log_axis(ax, "y")
    return figure


def wrapped(text: str, width: int) -> str:
    """Break a label into lines of at most `width` characters."""
    return "\n".join(textwrap.wrap(text, width)) or text
