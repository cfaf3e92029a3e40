"""`rule: from`: paths from one minimum to all lower ones.

These paths measure how hard it is to leave that minimum: the lowest of their passes is the death of its bar
by Algorithm 1 of the paper. If no minimum is lower by more than the tolerance, paths lead to all other minima
instead: a dip inside one of them may be a lower minimum (`minima.discover`).
"""

from collections.abc import Iterator

import numpy as np

from orchestrator.pair_rules.pair_results import PairResults
from orchestrator.pair_rules.path_requests import Pair
from orchestrator.pair_rules.protocol import FixedRule, PairOptions


class FromMinimum(FixedRule):
    """Joins one minimum with all that are lower by more than the tolerance, the lowest first."""

    adaptive = True

    def candidates(self, options: PairOptions, minima: int, seed: int) -> Iterator[Pair]:
        return (_pair(options.minimum, j) for j in range(minima) if j != options.minimum)

    def count(self, options: PairOptions, minima: int, seed: int) -> int:
        return minima - 1

    def least(self, options: PairOptions, minima: int, seed: int) -> int:
        return min(1, minima - 1)

    def first(self, options: PairOptions, known: PairResults, seed: int) -> list[Pair]:
        start, losses = options.minimum, known.losses
        if not np.isfinite(losses[start]):
            return []
        others = [j for j in np.flatnonzero(np.isfinite(losses)).tolist() if j != start]
        lower = [j for j in others if losses[j] < losses[start] - options.tolerance]
        return [_pair(start, j) for j in sorted(lower or others, key=lambda j: (losses[j], j))]


def _pair(i: int, j: int) -> Pair:
    return min(i, j), max(i, j)
