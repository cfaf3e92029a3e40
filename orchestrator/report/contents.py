"""The figures of the report of one run, made from its results."""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from torch import Tensor

from orchestrator.analysis.landscape import Landscape
from orchestrator.planning.plan import Plan
from orchestrator.report.anytime import anytime_bars, anytime_figure
from orchestrator.report.barcodes import Panel, barcode_figure, diagram_figure
from orchestrator.report.figure import Figure
from orchestrator.report.groups import groups_figure, groups_of
from orchestrator.report.held_out_losses import held_out_figure
from orchestrator.report.minima import generalisation_figure, training_figure
from orchestrator.report.paths import (
    PathPoints,
    ReadPoints,
    history_figure,
    losses_figure,
    norms_figure,
)
from orchestrator.report.summary import has_length
from orchestrator.report.trees import matrix_figure, tree_figure, verified_tree_figure
from orchestrator.runs.stored_run import StartedRun
from topo_core.homology.merge_trees import merge_tree
from topo_core.paths.polyline import arc_positions
from workers.storage.immutable_objects import Damaged
from workers.storage.objects import NotFound

Pair = tuple[int, int]

FEWEST_BARS = 3
"""Smallest number of finite bars for the figure of bar length against test error: two points always lie on a
line."""


def figures(plan: Plan, landscape: Landscape, points: ReadPoints) -> Iterator[Figure]:
    """The figures of a run that have something to show; ``left_out`` explains which are missing.

    Each caption ends with a description of the loss.

    Args:
        plan: the plan of the run.
        landscape: its results.
        points: reads the points of a path; see `points_of`.
    """
    loss = f"Loss: {plan.run.loss.description}."
    for figure in _figures(plan, landscape, points):
        yield replace(figure, caption=f"{figure.caption} {loss}")


def _figures(plan: Plan, landscape: Landscape, points: ReadPoints) -> Iterator[Figure]:
    if not landscape.minima:
        return
    if not landscape.complete:
        yield anytime_figure(landscape, anytime_bars(landscape, adaptive=plan.adaptive))
    elder, direct = landscape.barcodes["elder"], landscape.barcodes["direct"]
    verified = landscape.verified
    ends = {end.minimum: end.kind.value for end in verified.ends} if verified else {}
    yield barcode_figure(
        [Panel("Elder rule", elder, ends), Panel("Direct paths only (Algorithm 1)", direct)],
        index=0,
    )
    if landscape.homology:
        for index, bars in landscape.homology.barcodes.items():
            yield barcode_figure([Panel("Optimised simplices", bars)], index=index)
    long = has_length(landscape)
    if long:
        yield diagram_figure({"elder rule": elder, "direct paths only": direct})
    known = landscape.assessment
    tree = known.tree if known else merge_tree(landscape.losses, landscape.heights)
    yield tree_figure(tree)
    if verified and verified.network.lowest:
        yield verified_tree_figure(landscape.losses, verified.network)
    yield matrix_figure(tree, landscape.losses, landscape.heights)
    made = (
        losses_figure(elder, landscape.passes, points),
        held_out_figure(elder, landscape.passes),
        generalisation_figure(landscape.minima, elder, landscape.run)
        if long and len(elder.finite) >= FEWEST_BARS
        else None,
        groups_figure(groups_of(plan, landscape)),
        training_figure(landscape.minima, landscape.run),
        history_figure(elder, landscape.passes),
        norms_figure(elder, landscape.passes, points),
    )
    yield from (figure for figure in made if figure is not None)


def left_out(landscape: Landscape) -> str:
    """Why figures of bar lengths are missing; empty if they are drawn."""
    if not landscape.minima:
        return ""
    if has_length(landscape):
        finite = len(landscape.barcodes["elder"].finite)
        if finite >= FEWEST_BARS:
            return ""
        bars = "One finite bar says" if finite == 1 else f"{finite} finite bars say"
        return (
            f"{bars} nothing about a relation between bar length and test "
            "error; that figure is left out."
        )
    return (
        "No finite bar is longer than its sampling error. The persistence diagram and the figure of bar "
        "length against test error would show nothing, and are left out."
    )


def points_of(run: StartedRun, landscape: Landscape) -> ReadPoints:
    """A function that reads the drawn data of the points of a path from the store; it caches each path."""

    @cache
    def read(pair: Pair) -> PathPoints | None:
        tensors = _readable(run, landscape.passes[pair].object)
        if not tensors:
            return None
        positions = arc_positions(tensors["points"]).tolist()
        if before := landscape.as_optimised.get(
            pair
        ):  # norms were recorded for the path before its saddle refinement
            tensors = _readable(run, before.object)
        if "norm_epochs" not in tensors:
            return PathPoints(positions)
        return PathPoints(
            positions,
            tensors["norm_epochs"][:, 0].tolist(),
            _without_padding(tensors["normal_norms"]),
            _without_padding(tensors["tangent_norms"]),
        )

    return read


def _readable(run: StartedRun, name: str | None) -> dict[str, Tensor]:
    """The tensors of a path; empty if they were not kept or cannot be read."""
    try:
        return run.store.read_path(name)
    except (Damaged, NotFound):
        return {}


def _without_padding(rows: Tensor) -> list[list[float]]:
    """Rows without the NaN that pads them to equal length."""
    return [[value for value in row if not math.isnan(value)] for row in rows.tolist()]
