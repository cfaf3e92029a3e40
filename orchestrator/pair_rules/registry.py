"""The pair rules, by their name in a run file (`pairs.rule`)."""

from orchestrator.pair_rules.all_pairs import AllPairs
from orchestrator.pair_rules.from_minimum import FromMinimum
from orchestrator.pair_rules.lazy import LazyPairs
from orchestrator.pair_rules.listed_pairs import ListedPairs
from orchestrator.pair_rules.protocol import PairRule
from orchestrator.pair_rules.random_pairs import RandomPairs

PAIR_RULES: dict[str, PairRule] = {
    "all": AllPairs(),
    "from": FromMinimum(),
    "lazy": LazyPairs(),
    "list": ListedPairs(),
    "random": RandomPairs(),
}
