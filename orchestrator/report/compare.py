"""`toscore compare`: several runs beside each other.

The paper's Figure 2 (barcodes on one axis), 3 (pairs of architectures that differ in one switch), 4 (scores
against size) and 5 (groups of minima), and how far the barcodes are from each other.
"""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from rich.console import Group as Rows
from rich.console import RenderableType
from rich.table import Table as TextTable
from rich.text import Text

from orchestrator.analysis.landscape import Landscape
from orchestrator.report.figure import Figure, Table
from orchestrator.report.groups import groups_figure, groups_of, wrapped
from orchestrator.report.page import NamedTable, Number, Page, Section
from orchestrator.report.style import (
    FIRST,
    GRID,
    INK,
    MUTED,
    NARROW,
    SECOND,
    SEQUENTIAL,
    WIDE,
    log_axis,
    number,
    spans_decades,
)
from orchestrator.report.terminal import what_is_missing
from orchestrator.run_file.errors import UserError
from orchestrator.runs.stored_run import StartedRun
from topo_core.homology.bottleneck_distance import bottleneck
from workers.tasks.specs import NetworkSpec

_NOT_TRAINED = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Compared:
    """One of the runs.

    Attributes:
        label: what it is called here.
        depth: hidden layers, where the network has that many by its name or options.
        width: units or channels of its widest hidden layer, likewise.
        parameters: trained scalars; None while there is no minimum to count them in.
    """

    label: str
    run: StartedRun
    landscape: Landscape
    depth: int | None
    width: int | None
    parameters: int | None

    @property
    def network(self) -> NetworkSpec:
        spec: NetworkSpec = self.run.plan.run.network
        return spec

    @property
    def score(self) -> float:
        """TO-score by the elder rule."""
        return self.landscape.to_scores["elder"]


def compared(runs: Sequence[StartedRun]) -> list[Compared]:
    """The runs, with what can be said of the sizes of their networks.

    Raises:
        UserError: fewer than two runs, or one without a single minimum.
    """
    if len(runs) < 2:
        raise UserError("One run cannot be compared: name two or more.")
    names = [run.plan.run.name for run in runs]
    found = []
    for run, name in zip(runs, names, strict=True):
        label = name if names.count(name) == 1 else run.store.objects.url
        landscape = run.landscape()
        if not landscape.minima:
            raise UserError(f"{label} has no minimum yet: leave it out, or let it run first.")
        depth, width = size_of(run.plan.run.network)
        found.append(Compared(label, run, landscape, depth, width, _parameters(run, landscape)))
    return found


def size_of(network: NetworkSpec) -> tuple[int | None, int | None]:
    """Depth and width that a network's name and options tell; None for what they do not."""
    match network.name:
        case "fc":
            hidden = tuple(network.option("hidden", (32, 32)))
            return len(hidden), max(hidden, default=0)
        case "cnn1" | "cnn2" | "cnn3":
            return int(network.name[-1]), int(network.option("channels", 32))
        case "transformer":
            return network.option("layers", None), network.option("width", None)
    return None, None


def _parameters(run: StartedRun, landscape: Landscape) -> int:
    first = min(landscape.minima)
    state = run.store.read_minimum(landscape.minima[first].key)
    return sum(t.numel() for name, t in state.items() if not name.endswith(_NOT_TRAINED))


def comparison_figures(runs: Sequence[Compared]) -> list[Figure]:
    """Those that have something to show for these runs."""
    groups = [
        group
        for item in runs
        for group in groups_of(item.run.plan, item.landscape, prefix=item.label)
    ]
    found = [
        barcodes_figure(runs),
        scores_figure(runs),
        pairs_figure(runs),
        groups_figure(groups),
        distances_figure(runs),
    ]
    return [figure for figure in found if figure is not None]


def barcodes_figure(runs: Sequence[Compared]) -> Figure:
    """The elder barcodes side by side, with the loss upwards, as in the paper's Figure 2."""
    rows = [
        (item.label, bar.minimum, bar.birth, bar.death)
        for item in runs
        for bar in item.landscape.barcodes["elder"].bars
    ]
    described = "; ".join(_in_words(item) for item in runs)
    return Figure(
        name="barcodes",
        title="Barcodes side by side",
        caption=(
            "One slot a run, one upright a bar: from the loss of its minimum up to the lowest pass that "
            "leads lower (elder rule). Arrows are bars that do not end. All on one axis of the training "
            "loss; two losses of different data sets have no common meaning."
        ),
        alt=f"Barcodes of {len(runs)} runs on one axis. {described}.",
        table=_table(("run", "minimum", "birth", "death"), rows),
        draw=partial(_draw_barcodes, runs),
    )


def _in_words(item: Compared) -> str:
    births = [bar.birth for bar in item.landscape.barcodes["elder"].bars]
    return (
        f"{item.label}: losses from {number(min(births))} to {number(max(births))}, TO-score "
        f"{number(item.score)}"
    )


def _table(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Table:
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    return Table({name: list(column) for name, column in zip(names, columns, strict=True)})


def _draw_barcodes(runs: Sequence[Compared], wide: bool) -> Drawing:
    figure = Drawing(figsize=(WIDE if wide else NARROW, 4.0))
    ax = figure.subplots()
    bars = [item.landscape.barcodes["elder"].bars for item in runs]
    ends = [v for own in bars for b in own for v in (b.birth, b.death) if math.isfinite(v)]
    log = spans_decades(ends)
    low, high = min(ends), max(ends)
    top = high * (high / low) ** 0.1 if log else high + 0.1 * (high - low or abs(high) or 1)
    finite, endless = [], []
    for slot, own in enumerate(bars):
        for place, bar in enumerate(own):
            x = slot + 0.1 + 0.8 * (place + 0.5) / len(own)
            if math.isfinite(bar.death):
                finite.append([(x, bar.birth), (x, bar.death)])
            else:
                endless.append([(x, bar.birth), (x, top)])
    room = (300 if wide else 150) / max(1, sum(map(len, bars)))
    width = max(0.6, min(5.0, room))
    ax.add_collection(LineCollection(finite, colors=FIRST, linewidths=width, capstyle="butt"))
    ax.add_collection(LineCollection(endless, colors=SECOND, linewidths=width, capstyle="butt"))
    ax.plot(
        [line[0][0] for line in endless],
        [top] * len(endless),
        "^",
        color=SECOND,
        ms=5,
        clip_on=False,
    )
    for lines, colour in ((finite, FIRST), (endless, SECOND)):
        births = [line[0] for line in lines]  # a bar without length is seen by its birth
        if births:
            ax.plot(*zip(*births, strict=True), "_", color=colour, ms=width + 3)
    for slot in range(1, len(runs)):
        ax.axvline(slot, color=GRID, lw=1)
    ax.set_xlim(0, len(runs))
    # Births of equal losses are points, and points at the lower edge must be seen.
    ax.set_ylim(low / (high / low) ** 0.05 if log else low - 0.05 * (high - low or 1), top)
    ax.set_xticks([slot + 0.5 for slot in range(len(runs))])
    characters = max(4, int((70 if wide else 34) / len(runs)))
    ax.set_xticklabels([wrapped(item.label, characters) for item in runs])
    ax.tick_params(axis="x", length=0)
    ax.set_ylabel("training loss")
    ax.grid(axis="y")
    ax.set_axisbelow(True)
    if log:
        log_axis(ax, "y")
    return figure


SIZES = (("depth", "hidden layers"), ("width", "units or channels"), ("parameters", "parameters"))


def scores_figure(runs: Sequence[Compared]) -> Figure | None:
    """TO-score against each size that differs between the runs; None where none does."""
    panels = []
    for name, label in SIZES:
        known = [item for item in runs if getattr(item, name) is not None]
        if len({getattr(item, name) for item in known}) > 1:
            panels.append((name, label, known))
    if not panels:
        return None
    rows = [
        (
            item.label,
            item.depth,
            item.width,
            item.parameters,
            item.score,
            item.landscape.to_scores["direct"],
            min(item.landscape.losses.values()),
            _highest_death(item),
        )
        for item in runs
    ]
    names = (
        "run",
        "depth",
        "width",
        "parameters",
        "TO-score",
        "TO-score (direct)",
        "lowest loss",
        "highest pass of the barcode",
    )
    against = " and ".join(label for _, label, _ in panels)
    scores = "; ".join(f"{item.label}: {number(item.score)}" for item in runs)
    return Figure(
        name="score-against-size",
        title="TO-score and size",
        caption=(
            f"TO-score (dots) and the highest pass of the barcode (triangles) against {against}, for the "
            "runs whose network has that size by name, options or count. Runs that differ in more than "
            "one thing differ in all of them: read a panel only for runs that are alike otherwise."
        ),
        alt=f"TO-score against {against}. {scores}.",
        table=_table(names, rows),
        draw=partial(_draw_scores, panels),
    )


def _highest_death(item: Compared) -> float:
    return max((bar.death for bar in item.landscape.barcodes["elder"].finite), default=math.nan)


def _draw_scores(panels: list[tuple[str, str, list[Compared]]], wide: bool) -> Drawing:
    rows, columns = (1, len(panels)) if wide else (len(panels), 1)
    size = (WIDE, 3.0) if wide else (NARROW, 2.6 * len(panels))
    figure = Drawing(figsize=size)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    values = [v for _, _, known in panels for i in known for v in (i.score, _highest_death(i))]
    log = spans_decades([v for v in values if v > 0])
    labels = dict.fromkeys(item.label for _, _, known in panels for item in known)
    numbers = {label: n for n, label in enumerate(labels, 1)} if len(labels) <= 10 else {}
    for ax, (name, label, known) in zip(axes, panels, strict=True):
        shown = sorted(known, key=lambda item: (getattr(item, name), item.label))
        sizes = [getattr(item, name) for item in shown]
        for mark, colour, title, what in (
            ("o", FIRST, "TO-score", lambda item: item.score),
            ("^", SECOND, "highest pass", _highest_death),
        ):
            heights = [what(item) if math.isfinite(what(item)) else math.nan for item in shown]
            ax.plot(sizes, heights, mark, color=colour, ms=6, alpha=0.85, label=title)
        if numbers:
            _write_numbers(ax, [(getattr(i, name), i.score, numbers[i.label]) for i in shown])
        if spans_decades([float(s) for s in sizes]):
            log_axis(ax, "x")
        elif all(isinstance(s, int) for s in sizes) and max(sizes) <= 20:
            ax.set_xticks(sorted(set(sizes)))
        ax.set_xlabel(label)
        ax.grid()
        ax.set_axisbelow(True)
        ax.margins(0.12)
    if log:
        log_axis(axes[0], "y")
    axes[0].set_ylabel("training loss")
    axes[0].legend()
    if numbers:
        keys = [Line2D([], [], ls="", marker=f"${n}$", color=MUTED) for n in numbers.values()]
        figure.legend(keys, numbers, loc="outside lower center", ncols=4 if wide else 2, fontsize=7)
    return figure


def _write_numbers(ax: Axes, dots: list[tuple[float, float, int]]) -> None:
    """Numbers beside dots (size, score, number), left and right in turn where sizes are equal.

    Names would lie over each other: runs of a study come in columns of equal size.
    """
    at_size: Counter[float] = Counter()
    for size, score, number_of_run in sorted(dots):
        if math.isfinite(score):
            side = -1 if at_size[size] % 2 else 1
            at_size[size] += 1
            ax.annotate(
                str(number_of_run), (size, score), xytext=(6 * side, 0), ha="left" if side > 0 else "right",
                va="center", textcoords="offset points", color=MUTED, fontsize=7,
            )  # fmt: skip


@dataclass(frozen=True)
class Match:
    """Two runs whose networks differ in one switch alone, on the same data."""

    switch: str
    off: Compared
    on: Compared


def matches(runs: Sequence[Compared]) -> list[Match]:
    """All pairs of runs that differ in one option that is on or off, such as batch_norm."""
    found = []
    for a, b in itertools.combinations(runs, 2):
        same_data = a.run.plan.identity.data == b.run.plan.identity.data
        if a.network.name != b.network.name or not same_data:
            continue
        first, second = a.network.keywords(), b.network.keywords()
        sides = [
            (key, first.get(key, False), second.get(key, False))
            for key in sorted({*first, *second})
        ]
        differing = [side for side in sides if side[1] != side[2]]
        if len(differing) != 1:
            continue
        switch, of_a, of_b = differing[0]
        if isinstance(of_a, bool) and isinstance(of_b, bool):
            off, on = (a, b) if of_b else (b, a)
            found.append(Match(switch.replace("_", " "), off, on))
    return found


def pairs_figure(runs: Sequence[Compared]) -> Figure | None:
    """Minima and passes of networks with and without a switch, as in the paper's Figure 3."""
    found = matches(runs)
    if not found:
        return None
    rows = [
        (f"{match.off.label} / {match.on.label}", match.switch, side, *_levels(item))
        for match in found
        for side, item in (("without", match.off), ("with", match.on))
    ]
    names = ("pair", "switch", "side", "lowest loss", "median pass", "highest pass", "TO-score")
    words = "; ".join(
        f"{m.switch}: TO-score {number(m.off.score)} without ({m.off.label}), {number(m.on.score)} with"
        for m in found
    )
    return Figure(
        name="matched-pairs",
        title="Matched pairs",
        caption=(
            "Networks that differ in one switch alone, without it on the left of each panel and with it "
            "on the right: lowest loss (squares), median (dots) and highest (triangles) end of the bars. "
            f"{words}."
        ),
        alt=f"{len(found)} matched pairs of runs. {words}.",
        table=_table(names, rows),
        draw=partial(_draw_pairs, found),
    )


def _levels(item: Compared) -> tuple[float, float, float, float]:
    deaths = [bar.death for bar in item.landscape.barcodes["elder"].finite] or [math.nan]
    lowest = min(item.landscape.losses.values())
    return lowest, float(np.median(deaths)), max(deaths), item.score


def _draw_pairs(found: Sequence[Match], wide: bool) -> Drawing:
    columns = min(len(found), 4 if wide else 2)
    rows = math.ceil(len(found) / columns)
    figure = Drawing(figsize=(WIDE if wide else NARROW, 0.3 + 2.6 * rows))
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    values = [v for m in found for item in (m.off, m.on) for v in _levels(item)[:3]]
    for ax, match in zip(axes, found, strict=False):
        off, on = _levels(match.off), _levels(match.on)
        for k, (mark, colour) in enumerate((("s", MUTED), ("o", FIRST), ("^", SECOND))):
            ax.plot([0, 1], [off[k], on[k]], mark + "-", color=colour, ms=5, lw=1)
        ax.set_xticks([0, 1], [f"no {match.switch}", match.switch])
        ax.set_xlim(-0.4, 1.4)
        ax.set_title(wrapped(f"{match.off.label} / {match.on.label}", 20), fontsize=8)
        ax.grid(axis="y")
        ax.set_axisbelow(True)
    for ax in axes[len(found) :]:
        ax.set_visible(False)
    if spans_decades(values):
        log_axis(axes[0], "y")
    axes[0].set_ylabel("training loss")
    return figure


def distances(runs: Sequence[Compared]) -> np.ndarray:
    """Bottleneck distances [n, n] between the elder barcodes."""
    matrix = np.zeros((len(runs), len(runs)))
    for (i, a), (j, b) in itertools.combinations(enumerate(runs), 2):
        found = bottleneck(a.landscape.barcodes["elder"], b.landscape.barcodes["elder"])
        matrix[i, j] = matrix[j, i] = found
    return matrix


def distances_figure(runs: Sequence[Compared]) -> Figure:
    """The bottleneck distances between the barcodes."""
    matrix = distances(runs)
    rows = [
        (runs[i].label, runs[j].label, float(matrix[i, j]))
        for i, j in itertools.combinations(range(len(runs)), 2)
    ]
    words = "; ".join(f"{a} and {b}: {number(d)}" for a, b, d in rows[:10])
    return Figure(
        name="bottleneck-distances",
        title="Distances between the barcodes",
        caption=(
            "Bottleneck distance (L∞) between the elder barcodes, in units of the loss: how far bars must "
            "be moved to turn one barcode into the other. Infinite bars are matched by birth, so the "
            "lowest losses count; different numbers of infinite bars are infinitely far apart."
        ),
        alt=f"Bottleneck distances between {len(runs)} barcodes. {words}.",
        table=_table(("run", "other run", "bottleneck distance"), rows),
        draw=partial(_draw_distances, matrix, [item.label for item in runs]),
    )


def _draw_distances(matrix: np.ndarray, labels: Sequence[str], wide: bool) -> Drawing:
    size = min(WIDE if wide else NARROW, 2.0 + 0.6 * len(labels))
    figure = Drawing(figsize=(max(size, NARROW), max(2.6, size * 0.8)))
    ax = figure.subplots()
    finite = np.where(np.isfinite(matrix), matrix, np.nan)
    image = ax.imshow(np.ma.masked_invalid(finite), cmap=SEQUENTIAL, vmin=0)
    ax.set_facecolor("none")
    short = [wrapped(label, 12) for label in labels]
    ax.set_xticks(range(len(labels)), short, rotation=90 if len(labels) > 4 else 0)
    ax.set_yticks(range(len(labels)), short)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    middle = np.nanmax(finite) / 2
    if len(labels) <= 10:
        for i, j in itertools.product(range(len(labels)), repeat=2):
            dark = not math.isfinite(matrix[i, j])
            colour = INK if dark else "#ffffff" if matrix[i, j] <= middle else "#101010"
            ax.text(j, i, number(matrix[i, j]), ha="center", va="center", color=colour, fontsize=7)
    figure.colorbar(image, ax=ax, shrink=0.8, label="distance").outline.set_visible(False)
    return figure


def comparison_table(runs: Sequence[Compared]) -> Table:
    """A row a run."""
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
        }
    )


def _spec(values: dict[str, Any]) -> str:
    options = ", ".join(f"{k} {v}" for k, v in values.items() if k != "name")
    return f"{values['name']} ({options})" if options else str(values["name"])


def comparison_page(runs: Sequence[Compared], made: Sequence[Figure]) -> Page:
    """What the page of a comparison says."""
    missing = [
        f"{item.label}: {what_is_missing(item.landscape)}"
        for item in runs
        if not item.landscape.complete
    ]
    data = {item.run.plan.identity.data for item in runs}
    different = "" if len(data) == 1 else "The runs are on different data: losses do not compare. "
    return Page(
        title=" · ".join(item.label for item in runs),
        subtitle="Several runs beside each other. Every loss is the plain training loss.",
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
            Section("distances", "Distances", figures=_named(made, "bottleneck-distances")),
            Section(
                "runs", "The runs", tables=[NamedTable("runs", "Runs", comparison_table(runs))]
            ),
        ],
    )


def _named(made: Sequence[Figure], *names: str) -> list[Figure]:
    return [figure for figure in made if figure.name in names]


def comparison_view(runs: Sequence[Compared]) -> RenderableType:
    """The same for a terminal: a row a run, and the distances."""
    table = TextTable(box=None, pad_edge=False, padding=(0, 1))
    columns = (
        "run",
        "parameters",
        "minima",
        "lowest loss",
        "TO-score (elder)",
        "TO-score (direct)",
    )
    values = comparison_table(runs)
    for name in columns:
        table.add_column(name, justify="left" if name == "run" else "right")
    for row in zip(*(values.columns[name] for name in columns), strict=True):
        table.add_row(*(number(c) if isinstance(c, float) else str(c) for c in row))
    matrix = distances(runs)
    apart = TextTable(box=None, pad_edge=False, padding=(0, 1), title="bottleneck distances")
    apart.title_justify = "left"
    apart.add_column("")
    for item in runs:
        apart.add_column(item.label, justify="right")
    for item, row in zip(runs, matrix, strict=True):
        apart.add_row(item.label, *(number(float(v)) for v in row))
    incomplete = [
        Text(f"{item.label}: {what_is_missing(item.landscape)}", style="yellow")
        for item in runs
        if not item.landscape.complete
    ]
    return Rows(*incomplete, table, apart)
