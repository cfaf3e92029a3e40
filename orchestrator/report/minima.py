"""Table of the minima, and figures of their training and of test error against bar length."""

import math
from collections.abc import Mapping, Sequence
from functools import partial

from matplotlib.collections import LineCollection
from matplotlib.figure import Figure as Drawing

from orchestrator.report.correlation import RankCorrelation, rank_correlation
from orchestrator.report.figure import Figure, Table, table_of
from orchestrator.report.style import (
    FIRST,
    MUTED,
    NARROW,
    SECOND,
    WIDE,
    few_ticks,
    log_axis,
    number,
    signed,
    spans_decades,
)
from topo_core.homology.barcodes import Barcode
from workers.storage.schema import MinimumRecord

TRACED = 200
"""Largest number of training curves that are drawn: more cannot be told apart and only enlarge the file."""

Minima = Mapping[int, MinimumRecord]


def minima_table(minima: Minima, bars: Barcode) -> Table:
    """A table with one row for each minimum, by increasing loss."""
    bar_of = {bar.minimum: bar for bar in bars.bars}
    rows = sorted(minima.items(), key=lambda item: (item[1].loss, item[0]))
    records = [record for _, record in rows]
    return Table(
        {
            "minimum": [index for index, _ in rows],
            "loss": [r.loss for r in records],
            "bar length": [bar_of[index].length for index, _ in rows],
            "accuracy": [r.accuracy for r in records],
            "test loss": [r.test_loss for r in records],
            "test accuracy": [r.test_accuracy for r in records],
            "verdict": [r.verdict or "not judged" for r in records],
            "gradient norm": [r.gradient_norm for r in records],
            "lowest curvature": [_first(r.eigenvalues) for r in records],
            "± of curvature": [_first(r.eigenvalue_bounds) for r in records],
            "directions without curvature": [r.zero_modes for r in records],
            "explained by symmetries": [r.symmetry_modes for r in records],
            "epochs": [r.epochs for r in records],
            "stopped by": [r.stop_reason for r in records],
            "from": [r.source for r in records],
            "seconds": [r.seconds for r in records],
        }
    )


def _first(values: Sequence[float]) -> float:
    return values[0] if len(values) else math.nan


def training_figure(minima: Minima, run: str) -> Figure | None:
    """Training loss and learning rate against epochs; None if no minimum was trained in this run."""
    curves = {
        index: [(row["epoch"], row["loss"], row["rate"]) for row in record.history]
        for index, record in sorted(minima.items())
        if record.history
    }
    if not curves:
        return None
    drawn = dict(list(curves.items())[:TRACED])
    left_out = (
        f" The first {TRACED} of {len(curves)} are drawn." if len(curves) > len(drawn) else ""
    )
    ends = [curve[-1][1] for curve in curves.values()]
    rows = [(index, *row) for index, curve in curves.items() for row in curve]
    names = ("minimum", "epoch", "loss", "rate")
    return Figure(
        name="training-curves",
        title="Training of the minima",
        caption=(
            "Mean loss over the minibatches of each epoch (top) and learning rate (bottom), one line "
            f"for each minimum.{left_out}"
        ),
        alt=(
            f"Training curves of {len(curves)} minima of {run}; they end at losses between "
            f"{number(min(ends))} and {number(max(ends))}."
        ),
        table=table_of(names, rows),
        draw=partial(_draw_training, drawn),
    )


def _draw_training(curves: Mapping[int, list[tuple[int, float, float]]], wide: bool) -> Drawing:
    figure = Drawing(figsize=(WIDE if wide else NARROW, 3.6))
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    losses, rates = [], []
    for curve in curves.values():
        losses.append([(epoch, loss) for epoch, loss, _ in curve])
        rates.append([(epoch, rate) for epoch, _, rate in curve])
    alpha = max(0.15, min(0.9, 8 / len(curves)))
    many = sum(map(len, losses)) > 20_000
    for ax, lines, colour in ((top, losses, FIRST), (bottom, rates, SECOND)):
        ax.add_collection(
            LineCollection(lines, colors=colour, linewidths=1.0, alpha=alpha, rasterized=many)
        )
        ax.autoscale()
        ax.grid(axis="y")
        ax.set_axisbelow(True)
    if spans_decades([loss for line in losses for _, loss in line]):
        log_axis(top, "y")
    top.set_ylabel("training loss")
    bottom.set(xlabel="epoch", ylabel="learning rate" if wide else "rate")
    few_ticks(bottom, wide, integer=True)
    bottom.set_ylim(bottom=0)
    return figure


def generalisation_figure(minima: Minima, bars: Barcode, run: str) -> Figure | None:
    """Length of each finite bar against the test error of its minimum; None if no test accuracy is known."""
    rows = [
        (bar.minimum, bar.length, 1 - minima[bar.minimum].test_accuracy, minima[bar.minimum].loss)
        for bar in bars.finite
        if math.isfinite(minima[bar.minimum].test_accuracy)
    ]
    if not rows:
        return None
    correlation = rank_correlation([r[1] for r in rows], [r[2] for r in rows], "length-error", run)
    names = ("minimum", "bar length", "test error", "loss")
    return Figure(
        name="length-and-test-error",
        title="Bar length and test error",
        caption=(
            "One point for each finite bar: its length, and the share of test examples that its minimum "
            f"misclassifies. {correlation.sentence} All minima have one architecture; an interval that "
            "contains 0 shows no relation."
        ),
        alt=f"Scatter plot of {len(rows)} minima, bar length against test error. {correlation.sentence}",
        table=table_of(names, rows),
        draw=partial(_draw_generalisation, rows, correlation),
    )


def _draw_generalisation(
    rows: list[tuple[int, float, float, float]], correlation: RankCorrelation, wide: bool
) -> Drawing:
    figure = Drawing(figsize=(4.8, 3.4) if wide else (NARROW, 3.2))
    ax = figure.subplots()
    ax.plot(
        [r[1] for r in rows], [100 * r[2] for r in rows], "o", color=FIRST, alpha=0.8,
        ms=5 if len(rows) <= 100 else 2.5, rasterized=len(rows) > 500,
    )  # fmt: skip
    if len(rows) <= 20:
        for minimum, length, error, _ in rows:
            ax.annotate(
                str(minimum), (length, 100 * error), xytext=(4, 4), textcoords="offset points",
                color=MUTED, fontsize=7,
            )  # fmt: skip
    ax.set(xlabel="length of the bar (training loss)", ylabel="test error, %")
    ax.grid()
    ax.set_axisbelow(True)
    ax.margins(0.1)
    few_ticks(ax, wide)
    if not math.isnan(correlation.rho):
        ax.set_title(
            f"ρ = {signed(correlation.rho)} [{signed(correlation.low)}, {signed(correlation.high)}], "
            f"n = {correlation.count}, p = {correlation.p:.2g}"
        )
    return figure
