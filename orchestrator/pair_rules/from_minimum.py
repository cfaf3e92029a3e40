"""`rule: from`: the paths out of one minimum, to those that are lower.

They answer how hard that minimum is to leave: the lowest of their passes is the end of its bar by Algorithm 1
of the paper. Where no minimum is lower by more than the tolerance, paths lead to all others instead: a dip
inside one of them may be a lower minimum (`minima.discover`).
"""

from collections.abc import Iterator

import numpy as np

from orchestrator.pair_rules.knowledge import Knowledge
from orchestrator.pair_rules.orders import Pair
from orchestrator.pair_rules.protocol import FixedRule, PairOptions


class FromMinimum(FixedRule):
    """Joins one minimum with those that are lower, the lowest first."""

    adaptive = True

    def candidates(self, options: PairOptions, minima: int, seed: int) -> Iterator[Pair]:
        return (_pair(options.minimum, j) for j in range(minima) if j != options.minimum)

    def count(self, options: PairOptions, minima: int, seed: int) -> int:
        return minima - 1

    def least(self, options: PairOptions, minima: int, seed: int) -> int:
        return min(1, minima - 1)

    def first(self, options: PairOptions, known: Knowledge, seed: int) -> list[Pair]:
        start, losses = options.minimum, known.losses
        if not np.isfinite(losses[start]):
            return []
        others = [j for j in np.flatnonzero(np.isfinite(losses)).tolist() if j != start]
        lower = [j for j in others if losses[j] < losses[start] - options.tolerance]
        return [_pair(start, j) for j in sorted(lower or others, key=lambda j: (losses[j], j))]


def _pair(i: int, j: int) -> Pair:
    return min(i, j), max(i, j)
