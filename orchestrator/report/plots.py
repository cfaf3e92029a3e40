"""Plots of a run for a notebook, drawn into the given Matplotlib axes, or into new ones if None."""

from matplotlib.axes import Axes

from orchestrator.report.barcodes import draw_bars, room_for
from orchestrator.report.style import FIRST, MUTED, log_axis, spans_decades
from orchestrator.runs.api import LoadedRun
from topo_core.homology.barcodes import BarcodeMethod


def plot_barcode(run: LoadedRun, method: BarcodeMethod, ax: Axes | None) -> Axes:
    """Draw the bars of index 0 on a loss axis, the lowest minimum at the top; returns the axes."""
    ax = _axes(ax)
    bars = run.barcode(method)
    ends = [v for bar in bars.bars for v in (bar.birth, bar.death) if v < float("inf")]
    log = spans_decades(ends)
    room = room_for(min(ends), max(ends), log) if ends else (0.0, 1.0)
    draw_bars(ax, bars, right=room[1])
    if log:
        log_axis(ax, "x")
    ax.set(xlim=room, xlabel="training loss", title=run.name)
    return ax


def plot_diagram(run: LoadedRun, method: BarcodeMethod, ax: Axes | None) -> Axes:
    """Draw the finite bars of index 0 as points (birth, death); returns the axes."""
    ax = _axes(ax)
    finite = run.barcode(method).finite
    ends = [v for bar in finite for v in (bar.birth, bar.death)]
    low, high = room_for(min(ends), max(ends), False) if ends else (0.0, 1.0)
    ax.plot([low, high], [low, high], color=MUTED, lw=1)
    ax.plot([b.birth for b in finite], [b.death for b in finite], "o", color=FIRST)
    ax.set(xlabel="birth: loss of the minimum", ylabel="death: height of the pass")
    ax.set(xlim=(low, high), ylim=(low, high), title=run.name)
    return ax


def plot_path(run: LoadedRun, i: int, j: int, ax: Axes | None) -> Axes:
    """Draw the loss along the path between two minima against the arc length; returns the axes.

    Raises:
        UserError: there is no such path, or its loss profile was not read from the store.
    """
    ax = _axes(ax)
    path = run.path(i, j)
    ax.plot(path.positions, path.losses, color=FIRST)
    ax.set(xlabel="fraction of the arc length", ylabel="training loss", title=f"path {i}–{j}")
    return ax


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    from matplotlib import pyplot  # imported here, because it selects a display backend

    drawn: Axes = pyplot.subplots()[1]
    return drawn
