"""Draws the pictures of `docs/idea.md` with the program's own code: `python docs/make_figures.py`.

Every curve, path and bar is computed here; nothing is drawn by hand. `python docs/make_figures.py runs/demo`
draws the picture of the README from the finished run of `make demo`.
"""

import itertools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.interpolate import PchipInterpolator

import topo_core as tc
from orchestrator.report.barcodes import Panel, barcode_figure, draw_bars
from orchestrator.report.style import FIRST, INK, MUTED, SECOND, THIRD, styled
from orchestrator.runs.api import load_run
from topo_core.paths.update_settings import OptimizerSettings
from topo_core.reference_landscapes.surfaces import Landscape, gaussians, muller_brown, ring_valley

IMAGES = Path(__file__).parent / "images"


NAMES = {0: "A", 2: "B"}


def two_minima_that_look_alike() -> Figure:
    """The paper's Figure 1: equal wells, unequal climbs."""
    wells, ridges = {1.0: 1.0, 3.4: 0.25, 5.8: 1.02}, {2.2: 1.75, 4.6: 3.0}
    nodes = {0.1: 3.6, 6.7: 3.6, **ridges}
    for x, loss in wells.items():  # the same shape around every minimum
        nodes |= {x - 0.35: loss + 0.3, x: loss, x + 0.35: loss + 0.3}
    places = sorted(nodes)
    curve = PchipInterpolator(places, [nodes[x] for x in places])
    x = np.linspace(places[0], places[-1], 600)
    at = list(wells)
    heights = {
        (i, j): float(curve(np.linspace(at[i], at[j], 400)).max())
        for i, j in itertools.combinations(range(3), 2)
    }
    bars = tc.barcode(list(wells.values()), heights)
    figure = Figure(figsize=(7.2, 2.9))
    left, right = figure.subplots(1, 2, width_ratios=(2.4, 1), sharey=True)
    left.plot(x, curve(x), color=INK)
    for bar in bars.finite:
        left.plot([at[bar.minimum]] * 2, [bar.birth, bar.death], color=THIRD, lw=4)
        left.annotate(
            NAMES[bar.minimum], (at[bar.minimum], bar.birth), xytext=(0, -14),
            textcoords="offset points", ha="center",
        )  # fmt: skip
    left.plot(at, list(wells.values()), "o", color=SECOND, ms=5)
    left.set(xlabel="parameters", ylabel="loss", title="A and B look the same from nearby")
    left.set_xticks([])
    left.set_ylim(-0.1, 3.7)
    for place, bar in enumerate(bars.bars):
        top = min(bar.death, 3.7)
        endless = bar.death == float("inf")
        right.plot([place] * 2, [bar.birth, top], color=SECOND if endless else THIRD, lw=4)
        if endless:
            right.plot([place], [3.62], "^", color=SECOND, ms=8)
    right.set_xticks(range(3), ["lowest", *(NAMES[b.minimum] for b in bars.bars[1:])])
    right.set_title("barcode")
    right.set_xlim(-0.6, 2.6)
    right.grid(axis="y")
    return figure


def plane(
    ax: Axes, landscape: Landscape, box: tuple[float, float, float, float], cut: float
) -> None:
    """Level lines of a landscape of the plane; nothing above `cut`."""
    x, y = np.linspace(box[0], box[1], 160), np.linspace(box[2], box[3], 160)
    grid = torch.tensor(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2))
    losses = landscape.objective.losses(grid).reshape(len(y), len(x)).numpy()
    levels = np.linspace(losses.min(), cut, 24)
    ax.contourf(x, y, np.minimum(losses, cut), levels=levels, cmap="cividis", alpha=0.75)
    ax.contour(x, y, losses, levels=levels, colors="white", linewidths=0.3)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


def a_path_goes_down() -> Figure:
    """Points sliding down: a straight line becomes a path over the pass."""
    landscape = muller_brown()
    start, end = landscape.minima[0], landscape.minima[1]
    settings = tc.PathSettings(
        points=15, start="line", epochs=400, redistribute_every=1, focus=0.0,
        optimizer=OptimizerSettings("sgd", lr=2e-4), evaluate_every=100,
    )  # fmt: skip
    solver = tc.PathSolver(landscape.objective, settings)
    state = solver.begin(tc.initial_path(landscape.objective, start, end, settings, 0))
    figure = Figure(figsize=(7.2, 3.2))
    left, right = figure.subplots(1, 2)
    plane(left, landscape, (-1.4, 1.2, -0.3, 1.9), 60)
    moments = {0: MUTED, 10: FIRST, 40: THIRD, 400: SECOND}
    for epoch, colour in moments.items():
        if epoch:
            state = solver.advance(state, 0, until_epoch=epoch)
        left.plot(state.points[:, 0], state.points[:, 1], "o-", color=colour, ms=3, lw=1.2)
        profile = tc.loss_profile(landscape.objective, state.points)
        right.plot(profile.positions, profile.losses, color=colour, label=f"after {epoch} steps")
    right.axhline(landscape.passes[0, 1], color=INK, lw=0.8, ls="--")
    right.annotate(
        "the pass",
        (0, landscape.passes[0, 1]),
        xytext=(4, 3),
        textcoords="offset points",
        fontsize=8,
    )
    right.set(xlabel="share of the path's length", ylabel="loss", title="loss along the path")
    right.legend()
    left.set_title("the path, seen from above")
    return figure


def points_are_inserted() -> Figure:
    """The paper's Figure B.6: few points rest in the valley while the line between them leaves it."""
    landscape = ring_valley(2, depth=0.05)
    start = torch.tensor([[1.0, 0.0], [0.9, 0.45], [-0.9, 0.45], [-1.0, 0.0]], dtype=torch.float64)
    common = {"optimizer": OptimizerSettings("sgd", lr=0.02), "epochs": 600, "max_move": None}
    few = tc.PathSettings(points=4, redistribute_every=0, **common)
    more = tc.PathSettings(
        points=4, insertion=tc.Insertion(every=60, criterion="distance", threshold=0.5, max_points=13),
        **common,
    )  # fmt: skip
    figure = Figure(figsize=(7.2, 2.7))
    axes = figure.subplots(1, 3)
    for ax, settings, colour, title in (
        (axes[0], few, FIRST, "two points"),
        (axes[1], more, SECOND, "with insertion"),
    ):
        plane(ax, landscape, (-1.5, 1.5, -1.0, 1.5), 1.3)
        state = tc.PathSolver(landscape.objective, settings).begin(start)
        state = tc.PathSolver(landscape.objective, settings).advance(
            state, 0, until_epoch=settings.epochs or 1
        )
        ax.plot(state.points[:, 0], state.points[:, 1], "o-", color=colour, ms=4)
        profile = tc.loss_profile(landscape.objective, state.points)
        ax.set_title(f"{title}: {profile.maximum:.2f}")
        axes[2].plot(profile.positions, profile.losses, color=colour)
    axes[2].axhline(landscape.passes[0, 1], color=INK, lw=0.8, ls="--")
    axes[2].set(xlabel="share of the path's length", title="loss along the path")
    return figure


def from_minima_to_bars() -> Figure:
    """All minima of a random landscape, the paths at which its bars end, and the barcode."""
    landscape = gaussians(5)
    minima = landscape.minima
    paths = {
        (i, j): tc.optimize_path(landscape.objective, minima[i], minima[j])
        for i, j in itertools.combinations(range(len(minima)), 2)
    }
    heights = {pair: found.profile.maximum for pair, found in paths.items()}
    bars = tc.barcode(landscape.losses.tolist(), heights)
    figure = Figure(figsize=(7.2, 3.3))
    left, right = figure.subplots(1, 2)
    span = (-4.2, 4.2, -4.2, 4.2)
    plane(left, landscape, span, 0.4)
    for bar in bars.finite:
        if bar.saddle is not None:
            points = paths[bar.saddle].points
            left.plot(points[:, 0], points[:, 1], color=SECOND, lw=1.6)
    left.plot(minima[:, 0], minima[:, 1], "o", color="white", mec=INK, ms=6)
    for number, (x, y) in enumerate(minima.tolist()):
        left.annotate(str(number), (x, y), xytext=(6, 4), textcoords="offset points", fontsize=8)
    left.set_title("minima, and the paths at which bars end")
    finite = [v for b in bars.bars for v in (b.birth, b.death) if v != float("inf")]
    room = 0.1 * (max(finite) - min(finite))
    draw_bars(right, bars, right=max(finite) + room)
    right.set_xlim(min(finite) - room, max(finite) + room)
    right.set(xlabel="loss", title=f"barcode; TO-score {tc.to_score(bars):.3f}")
    return figure


PICTURES: Mapping[str, Callable[[], Figure]] = {
    "figure-1": two_minima_that_look_alike,
    "sliding-down": a_path_goes_down,
    "insertion": points_are_inserted,
    "from-minima-to-bars": from_minima_to_bars,
}


def make(folder: Path) -> None:
    """Draw all pictures into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        with styled():
            draw().savefig(folder / f"{name}.png", dpi=130, facecolor="white")


def draw_run(run: str, file: Path) -> None:
    """The elder barcode of a finished run as a picture, with marks at verified ends."""
    landscape = load_run(run).landscape
    verified = landscape.verified
    ends = {end.minimum: end.kind.value for end in verified.ends} if verified else {}
    title = f"{landscape.run}: TO-score {landscape.to_scores['elder']:.4f}"
    figure = barcode_figure([Panel(title, landscape.barcodes["elder"], ends)], index=0)
    with styled():
        figure.draw(True).savefig(file, dpi=130, facecolor="white")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        draw_run(sys.argv[1], IMAGES / "demo.png")
    else:
        make(IMAGES)
