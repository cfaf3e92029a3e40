"""Rounds of paths: each is chosen from the results of the rounds before it and from nothing else.

So a run that is killed and started again chooses the same pairs, whatever order its workers finished in.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from orchestrator.pair_rules.knowledge import Knowledge
from orchestrator.pair_rules.orders import Order, Pair, Rung
from orchestrator.pair_rules.protocol import PairOptions, PairRule
from orchestrator.pair_rules.routes import routed, spanning
from orchestrator.pair_rules.rungs import promotions


def next_round(
    rule: PairRule, options: PairOptions, known: Knowledge, seed: int, *, through: bool = False
) -> list[Order]:
    """The next paths, most informative first; none when the rule is satisfied or its budget is spent.

    Args:
        rule: that names the pairs.
        options: `pairs:` of the run file.
        known: the results of all rounds before.
        seed: of the run.
        through: paths start from those already done: a spanning tree comes first, and every later
            path starts as the route through the tree.
    """
    fresh = not np.isfinite(known.heights).any() and not known.failed.any()
    # An adaptive rule begins with a spanning tree by itself.
    in_two_parts = through and not rule.adaptive
    if fresh:
        first = rule.first(options, known, seed)
        return _orders(options, known, spanning(first, known) if in_two_parts else first)
    if in_two_parts:
        rest = [pair for pair in rule.first(options, known, seed) if known.open[pair]]
        if orders := _orders(options, known, rest):
            return routed(orders, known)
    if promoted := promotions(known, options.tolerance):
        return promoted
    orders = _orders(options, known, rule.later(options, known))
    return routed(orders, known) if through else orders


def _orders(options: PairOptions, known: Knowledge, pairs: list[Pair]) -> list[Order]:
    """Orders of the first rung for as many pairs as the budget allows."""
    if options.max_pairs is not None:
        started = int(np.triu(np.isfinite(known.best) | known.failed, k=1).sum())
        pairs = pairs[: max(0, options.max_pairs - started)]
    return [Order(pair, 0) for pair in pairs]


class Rounds:
    """The rounds of one run, as far as their results are known.

    Attributes:
        known: the results of the orders.
        orders: all orders so far.
        waiting: those of the last round without a result; empty when the rule is satisfied.
        issued: the orders, by pair and rung.
        keys: of the paths of orders with routes, filled in by the plan.
    """

    def __init__(
        self,
        rule: PairRule,
        options: PairOptions,
        losses: Mapping[int, float],
        count: int,
        rungs: int,
        seed: int,
        *,
        through: bool = False,
    ) -> None:
        """Args:
        rule: that names the pairs.
        options: `pairs:` of the run file.
        losses: of the minima that are there.
        count: of all minima.
        rungs: how many there are.
        seed: of the run.
        through: whether paths start from those already done.
        """
        self.known = Knowledge(losses, count, rungs)
        self.orders: list[Order] = []
        self.waiting: tuple[Order, ...] = ()
        self.issued: dict[Rung, Order] = {}
        self.keys: dict[Order, str] = {}
        self._rule, self._options, self._seed, self._through = rule, options, seed, through
        self._next()

    def advance(
        self, height: Callable[[Order], float | None], failed: Callable[[Order], bool]
    ) -> None:
        """Record results, round after round, until a round is not complete.

        Args:
            height: of an order, or None while it is not finished. It is called for the orders of the rounds
                alone.
            failed: whether an order ended without a result.
        """
        while self.waiting:
            waiting = []
            for order in self.waiting:
                measured = height(order)
                if measured is not None:
                    self.known.learn(order, measured)
                elif failed(order):
                    self.known.fail(order.pair)
                else:
                    waiting.append(order)
            self.waiting = tuple(waiting)
            if waiting:
                return
            self._next()

    def _next(self) -> None:
        chosen = next_round(
            self._rule, self._options, self.known, self._seed, through=self._through
        )
        # On a later rung a path keeps its start from the first rung.
        self.waiting = tuple(
            replace(order, via=self.issued[order.pair, 0].via) if order.rung else order
            for order in chosen
        )
        self.orders.extend(self.waiting)
        self.issued |= {(order.pair, order.rung): order for order in self.waiting}
