"""Adds saddles of index 1 that a search has found to the graph, after descents on both sides."""

import torch

from topo_core.critical_points.following import FollowingResult
from topo_core.critical_points.saddle_descents import descend_both_sides_together
from topo_core.critical_points.scaled_loss import ScaledLoss
from topo_core.paths.starts.spliced_paths import SaddleTrails
from topo_core.paths.starts.transition_graph import Edge, TransitionGraph

_FIRST, _LONGEST = (
    0.05,
    0.3,
)  # longest first step, and longest step; the unit is the distance of the ends
_STEPS = 300


def new_saddles(graph: TransitionGraph, result: FollowingResult, below: float) -> list[int]:
    """Rows of ``result`` that are proved saddles of index 1, lower than ``below`` and not in ``graph``."""
    negative = (result.values < 0).sum(1).tolist()
    settled = result.values[:, :2].isfinite().all(1).tolist()
    fresh = list[int]()
    for k, loss in enumerate(result.losses.tolist()):
        point = result.points[k]
        proved = bool(result.converged[k]) and settled[k] and negative[k] == 1
        if not proved or not loss < below or graph.knows(point):
            continue
        if all(float((point - result.points[j]).norm()) > graph.same for j in fresh):
            fresh.append(k)
    return fresh


def join(
    loss: ScaledLoss,
    graph: TransitionGraph,
    result: FollowingResult,
    rows: list[int],
    tolerance: float,
) -> list[SaddleTrails]:
    """Descend from the saddles in ``rows``; those with minima on both sides become edges of ``graph``.

    Args:
        loss: the loss in the coordinates of the search.
        graph: the minima and saddles found so far.
        result: the results of the searches.
        rows: rows of ``result`` that are the saddles.
        tolerance: predicted fall below which a descent has converged, in units of loss.

    Returns:
        The saddles of ``rows`` with their descents, as parameters of the objective.
    """
    which = torch.tensor(rows, device=result.points.device)
    down = descend_both_sides_together(
        loss,
        result.points[which],
        result.values[which],
        result.vectors[which],
        first=_FIRST,
        longest=_LONGEST,
        tolerance=tolerance,
        steps=_STEPS,
    )
    trails = list[SaddleTrails]()
    for n, k in enumerate(rows):
        both = n, n + len(rows)
        one, other = (loss.theta(down.polylines[m]) for m in both)
        trails.append(
            SaddleTrails(
                point=loss.theta(result.points[k]),
                loss=float(result.losses[k]),
                sides=(one, other),
                lowest=(float(down.losses[both[0]]), float(down.losses[both[1]])),
            )
        )
        if not all(bool(down.converged[m]) for m in both):
            continue
        i, j = (graph.minimum(down.points[m], float(down.losses[m])) for m in both)
        first, second = (
            torch.cat([down.polylines[m], graph.minima[node][None]])
            for m, node in zip(both, (i, j), strict=True)
        )
        graph.edges.append(
            Edge(
                point=result.points[k],
                loss=float(result.losses[k]),
                gradient=result.gradients[k],
                values=result.values[k],
                ends=(i, j),
                sides=(first, second),
            )
        )
    return trails
