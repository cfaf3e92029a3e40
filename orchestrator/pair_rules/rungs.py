"""`pairs.rungs`: all paths are optimised for few epochs, and only those that decide a bar are continued.

A path is continued on the next rung if it is in the minimum spanning tree and its bar is longer than the
tolerance. Then its challengers are continued: paths that may still become lower than the path of the tree. A
prediction bound decides this, from the falls of the paths that were continued before. Each rung anneals the
learning rate to its end, because heights in the middle of an optimisation cannot be compared (in one case
their rank correlation with the final heights was only -0.15).
"""

import numpy as np

from orchestrator.pair_rules.pair_results import PairResults
from orchestrator.pair_rules.path_requests import PathRequest

_RISK = 0.05
"""Accepted probability that some path left on a rung would have fallen below its predicted lowest height."""

_NOTHING = 1e-9
"""Lower bound for the share of a rise that a path keeps, so that its logarithm is finite."""


def promotions(known: PairResults, tolerance: float) -> list[PathRequest]:
    """Orders for paths of the tree below the top rung; if there are none, for their challengers.

    Args:
        known: the results so far.
        tolerance: changes of a bar up to this do not matter, in units of the loss.
    """
    if known.top == 0:
        return []
    tree, rung = known.tree(), known.rung
    climbing = [
        PathRequest(pair, int(rung[pair]) + 1)
        for pair in tree.edges
        if rung[pair] < known.top
        and not known.failed[pair]
        and tree.minimax[pair] > known.floors[pair] + tolerance
    ]
    if climbing:
        return climbing
    challengers = []
    for level in range(known.top):
        here = np.triu((rung == level) & ~known.failed, k=1)
        floors = np.where(here, known.floors, 0.0)
        rise = np.where(here, known.heights[level], 0.0) - floors
        lowest = np.where(here, floors + _least_share(known, level) * rise, np.inf)
        for i, j in zip(*np.nonzero(lowest < tree.minimax - tolerance), strict=True):
            challengers.append(PathRequest((int(i), int(j)), level + 1))
    return challengers


def _least_share(known: PairResults, level: int) -> float:
    """Lower bound for the share of its rise over the floor that each path on this rung would keep.

    It is a prediction bound (Student's t, Bonferroni correction over the paths left) from the shares that the
    continued paths kept, which are assumed to be log-normal. It is at most the smallest of these shares, and
    zero while fewer than two are known.
    """
    before, after = known.heights[level], known.heights[known.top]
    seen = np.triu(np.isfinite(before) & np.isfinite(after), k=1)
    left = int(np.triu(np.isfinite(before) & ~np.isfinite(after), k=1).sum())
    count = int(seen.sum())
    if count < 2 or not left:
        return 0.0
    rise = before[seen] - known.floors[seen]
    kept = np.divide(after[seen] - known.floors[seen], rise, where=rise > 0, out=np.ones(count))
    logs = np.log(np.clip(kept, _NOTHING, 1.0))
    # Imported here: only runs with rungs need it, and it is slow to import.
    from scipy.special import stdtrit

    quantile = float(stdtrit(count - 1, _RISK / left))
    bound = logs.mean() + quantile * logs.std(ddof=1) * np.sqrt(1 + 1 / count)
    return float(np.exp(min(bound, logs.min())))
