"""`pairs.rungs`: paths are optimised for few epochs and compared, and only those that matter are continued.

Paths of the minimum spanning tree that hold up a bar by more than the tolerance are continued, and so are
their challengers: paths that may still become lower than the tree's path, by a bound that is predicted from
the falls of paths that were continued before. Each rung ends with its own annealing, because paths in the
middle of their optimisation cannot be compared (their heights then had a rank correlation with the final
ones of only -0.15 in one case).
"""

import numpy as np

from orchestrator.pair_rules.knowledge import Knowledge
from orchestrator.pair_rules.orders import Order

_RISK = 0.05
"""The chance that any of the paths left on a rung would have fallen below its predicted lowest height."""

_NOTHING = 1e-9
"""A share of a rise that counts as none: its logarithm has to be finite."""


def promotions(known: Knowledge, tolerance: float) -> list[Order]:
    """The paths of the tree that are not at the top, or else those that could still replace one."""
    if known.top == 0:
        return []
    tree, rung = known.tree(), known.rung
    climbing = [
        Order(pair, int(rung[pair]) + 1)
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
            challengers.append(Order((int(i), int(j)), level + 1))
    return challengers


def _least_share(known: Knowledge, level: int) -> float:
    """The share of its rise over its floor that every path left on this rung will keep to the top, at least.

    A prediction bound (Student's t, Bonferroni over the paths left) from the shares that the others kept,
    taken as log-normal; never above the smallest of them. Zero while fewer than two are known.
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
