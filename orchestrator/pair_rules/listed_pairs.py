"""`rule: list`: the pairs that the run file lists."""

from collections.abc import Iterator

from orchestrator.pair_rules.path_requests import Pair
from orchestrator.pair_rules.protocol import FixedRule, PairOptions


class ListedPairs(FixedRule):
    """Joins the pairs of `pairs.pairs`."""

    open_ended = False

    def check(self, options: PairOptions) -> None:
        if not options.pairs:
            raise ValueError("pairs.rule is 'list' and pairs.pairs is empty: list the pairs")

    def candidates(self, options: PairOptions, minima: int, seed: int) -> Iterator[Pair]:
        listed = {(min(pair), max(pair)) for pair in options.pairs}
        return iter(sorted(listed, key=lambda pair: pair[::-1]))
