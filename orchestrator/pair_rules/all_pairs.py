"""`rule: all`: every pair of minima."""

from collections.abc import Iterator

from orchestrator.pair_rules.path_requests import Pair
from orchestrator.pair_rules.protocol import FixedRule, PairOptions


class AllPairs(FixedRule):
    """Joins every minimum with every other one."""

    def candidates(self, options: PairOptions, minima: int, seed: int) -> Iterator[Pair]:
        return ((i, j) for j in range(minima) for i in range(j))

    def count(self, options: PairOptions, minima: int, seed: int) -> int:
        return minima * (minima - 1) // 2
