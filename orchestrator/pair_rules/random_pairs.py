"""`rule: random`: a few pairs for each minimum."""

import hashlib
from collections.abc import Iterator

from orchestrator.pair_rules.path_requests import Pair
from orchestrator.pair_rules.protocol import FixedRule, PairOptions


class RandomPairs(FixedRule):
    """Joins each minimum with the `per_minimum` others whose pair has the lowest hash.

    The hash depends on the seed and the pair alone, so additional minima change only few of the pairs.
    """

    def candidates(self, options: PairOptions, minima: int, seed: int) -> Iterator[Pair]:
        def rank(i: int, j: int) -> bytes:
            low, high = sorted((i, j))
            return hashlib.sha256(f"{seed}:{low}:{high}".encode()).digest()

        chosen = set()
        for i in range(minima):
            partners = sorted((j for j in range(minima) if j != i), key=lambda j: rank(i, j))
            chosen |= {(min(i, j), max(i, j)) for j in partners[: options.per_minimum]}
        return iter(sorted(chosen, key=lambda pair: pair[::-1]))
