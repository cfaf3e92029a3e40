"""Pair rules are registered by name; a new one needs no change elsewhere."""

import pytest

from orchestrator.pair_rules.protocol import FixedRule
from orchestrator.pair_rules.registry import PAIR_RULES
from orchestrator.planning.plan import Identity, Plan
from orchestrator.run_file.errors import BadRunFile
from orchestrator.run_file.reading import json_schema, parse

GOOD = {"name": "n", "data": "digits", "network": "fc", "minima": {"count": 5}}


class Chain(FixedRule):
    """Joins each minimum with the next."""

    def candidates(self, options, minima, seed):
        return ((i, i + 1) for i in range(minima - 1))


def test_a_rule_from_outside(monkeypatch):
    """One class and one entry: run files, the schema, messages and plans know the rule."""
    monkeypatch.setitem(PAIR_RULES, "chain", Chain())
    run = parse({**GOOD, "pairs": {"rule": "chain"}})
    assert list(Plan(run, Identity("", "")).pairs()) == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert "chain" in json_schema()["$defs"]["Pairs"]["properties"]["rule"]["enum"]
    with pytest.raises(BadRunFile, match="'random' or 'chain'"):
        parse({**GOOD, "pairs": {"rule": "chian"}})


@pytest.mark.parametrize("rule", [*PAIR_RULES, 3])
def test_names_come_from_the_registry(rule):
    """Each registered rule is accepted; of anything else the message lists the names."""
    pairs = {"rule": rule, "pairs": [[0, 1]]}
    if rule in PAIR_RULES:
        assert parse({**GOOD, "pairs": pairs}).pairs.chosen is PAIR_RULES[rule]
        return
    with pytest.raises(
        BadRunFile, match=r"pairs\.rule is 3; it must be 'all', 'from', 'lazy', 'list' or"
    ):
        parse({**GOOD, "pairs": pairs})


def test_a_budget_of_a_lazy_rule_counts_what_it_chooses():
    """max_pairs cuts no candidate of a rule that looks at results: reuse and failures see all of them."""
    lazy = Plan(parse({**GOOD, "pairs": {"rule": "lazy", "max_pairs": 4}}), Identity("", ""))
    assert (len(list(lazy.pairs())), lazy.pair_count, lazy.least_pair_count) == (10, 4, 4)
    whole = Plan(parse({**GOOD, "pairs": {"rule": "all", "max_pairs": 3}}), Identity("", ""))
    assert (len(list(whole.pairs())), whole.pair_count) == (3, 3)
