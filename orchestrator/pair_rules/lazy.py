"""`rule: lazy`: only the paths that can still move a bar by more than the tolerance.

**Which pairs are left out.** The pass of a pair is never lower than the higher of its two minima, the *floor*
of the pair. If finished paths join the two minima at a height of at most floor + tolerance, the pair is
*excluded*: its own path could lower the height at which the two are joined by no more than the tolerance, so
leaving it out moves no bar by more. All other pairs without a path are *undecided*. So the rule saves paths
only where bars are shorter than the tolerance: at the pass of a longer bar, every pair that crosses it may
have a lower path.

**Order.** The first round joins the lowest minimum with every other one (a star). Then all bars are finite,
and if all minima are connected at their own heights no other path is needed. In later rounds, for each pass
of the minimum spanning tree that undecided pairs cross, the pairs with the lowest predicted heights are
chosen. Passes that could still fall furthest come first, so that a limited number of pairs is used where it
matters. The predicted height of a path is its floor plus the mean rise over the floor of the finished paths
of its two minima.
"""

import numpy as np

from orchestrator.pair_rules.all_pairs import AllPairs
from orchestrator.pair_rules.pair_results import Floats, PairResults
from orchestrator.pair_rules.path_requests import Pair
from orchestrator.pair_rules.protocol import PairOptions

_PART = 8
"""Each round takes one part in this many (an eighth) of the undecided pairs across a pass. Smaller parts
would use new results sooner; larger parts make workers wait less often for the last path of a round."""


class LazyPairs(AllPairs):
    """Joins the pairs that can still move a bar by more than the tolerance, round by round."""

    adaptive = True

    def least(self, options: PairOptions, minima: int, seed: int) -> int:
        return minima - 1

    def first(self, options: PairOptions, known: PairResults, seed: int) -> list[Pair]:
        there = np.flatnonzero(np.isfinite(known.losses)).tolist()
        lowest = int(known.losses.argmin())
        others = sorted(there, key=lambda i: (known.losses[i], i))
        return [(min(lowest, i), max(lowest, i)) for i in others if i != lowest]

    def later(self, options: PairOptions, known: PairResults) -> list[Pair]:
        return _most_informative(known, options.tolerance)


def _most_informative(known: PairResults, tolerance: float) -> list[Pair]:
    """For each pass of the tree, the undecided pairs across it with the lowest predicted heights."""
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
    # Largest possible fall of the pass first; an infinite one comes before all others.
    gain = tree.minimax[i[chosen], j[chosen]] - known.floors[i[chosen], j[chosen]]
    chosen = chosen[np.lexsort((chosen, -gain))]
    return [(int(i[c]), int(j[c])) for c in chosen]


def _mean_rises(known: PairResults) -> Floats:
    """[n], mean rise over the floor of the finished paths of each minimum; of all paths if it has none."""
    done = np.isfinite(known.best)
    rises = np.where(done, known.best - np.where(done, known.floors, 0.0), 0.0)
    count = done.sum(axis=1)
    overall = rises.sum() / max(1, int(count.sum()))
    mean: Floats = np.where(count > 0, rises.sum(axis=1) / np.maximum(count, 1), overall)
    return mean
