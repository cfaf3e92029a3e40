"""`rule: lazy`: only the paths that can still move a bar by more than the tolerance.

**What can be left out.** A pass is never lower than the higher of its two minima, its *floor*. A pair
whose minima are joined through finished paths at a height of at most its floor + tolerance is
*excluded*: in any barcode of all pairs those paths could replace its own, so leaving it out moves no bar
by more than the tolerance. Excluding needs bars shorter than the tolerance: where a bar is longer,
every pair that crosses its pass may still be lower and stays *undecided* until its path is optimised.

**Order.** First the lowest minimum with every other (a star: all bars become finite, and where minima
are connected at their own heights nothing else is needed). Then, for each pass of the merge tree that
undecided pairs cross, those of them that are likely to be lowest; passes that could still fall furthest
come first, so that a budget is spent where it matters. The likely height of a path is its
floor plus the mean rise of its two minima over their floors so far.
"""

import numpy as np

from orchestrator.pair_rules.all_pairs import AllPairs
from orchestrator.pair_rules.knowledge import Floats, Knowledge
from orchestrator.pair_rules.orders import Pair
from orchestrator.pair_rules.protocol import PairOptions

_PART = 8
"""In each round an eighth of the undecided pairs across a pass are optimised. With fewer, more pairs would be
chosen by results; with more, workers would wait less often for the last path of a round."""


class LazyPairs(AllPairs):
    """Joins the pairs that can still move a bar, round by round."""

    adaptive = True

    def least(self, options: PairOptions, minima: int, seed: int) -> int:
        return minima - 1

    def first(self, options: PairOptions, known: Knowledge, seed: int) -> list[Pair]:
        there = np.flatnonzero(np.isfinite(known.losses)).tolist()
        lowest = int(known.losses.argmin())
        others = sorted(there, key=lambda i: (known.losses[i], i))
        return [(min(lowest, i), max(lowest, i)) for i in others if i != lowest]

    def later(self, options: PairOptions, known: Knowledge) -> list[Pair]:
        return _most_informative(known, options.tolerance)


def _most_informative(known: Knowledge, tolerance: float) -> list[Pair]:
    """Of the undecided pairs that cross each pass of the tree, those likely to be lowest."""
    tree = known.tree()
    candidates = known.open & (known.floors + tolerance < tree.minimax)
    i, j = np.nonzero(candidates)
    if not len(i):
        return []
    rise = _mean_rises(known)
    likely = known.floors[i, j] + 0.5 * (rise[i] + rise[j])
    group = tree.crossed[i, j]
    order = np.lexsort((j, i, likely, group))
    _, first, inverse, size = np.unique(
        group[order], return_index=True, return_inverse=True, return_counts=True
    )
    rank = np.arange(len(order)) - first[inverse]
    share = np.maximum(1, size // _PART)
    chosen = order[rank < share[inverse]]
    # How far the pass could fall, largest first; an infinite one before all others.
    gain = tree.minimax[i[chosen], j[chosen]] - known.floors[i[chosen], j[chosen]]
    chosen = chosen[np.lexsort((chosen, -gain))]
    return [(int(i[c]), int(j[c])) for c in chosen]


def _mean_rises(known: Knowledge) -> Floats:
    """[n], how far the paths of each minimum rise over their floors."""
    done = np.isfinite(known.best)
    rises = np.where(done, known.best - np.where(done, known.floors, 0.0), 0.0)
    count = done.sum(axis=1)
    overall = rises.sum() / max(1, int(count.sum()))
    mean: Floats = np.where(count > 0, rises.sum(axis=1) / np.maximum(count, 1), overall)
    return mean
