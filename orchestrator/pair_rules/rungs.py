"""`pairs.rungs`: paths are optimised for few epochs, compared, and only those that matter go on.

Those that hold up a bar (the minimum spanning tree) by more than the tolerance go on, and so do their
challengers: those that may still come below the tree's path, by a bound that is predicted from how far
the paths fell that went on before them. Each rung ends with its own annealing, because paths in the
middle of their optimisation cannot be compared (Spearman's rank correlation with the final heights was
seen as low as -0.15).
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
