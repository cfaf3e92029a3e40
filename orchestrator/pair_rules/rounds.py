"""Rounds of paths: each round depends only on the results of the complete rounds before it.

So a run that is killed and started again chooses the same pairs, in whatever order its workers finish.
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
    """The paths of the next round, most informative first; empty if none is needed or allowed.

    Args:
        rule: chooses the pairs.
        options: `pairs:` of the run file.
        known: the results of all earlier rounds.
        seed: of the run.
        through: whether paths start from finished ones (`paths.start: through`). Then a spanning tree comes
            first, and the initial path of every later pair is its route through the tree.
    """
    fresh = not np.isfinite(known.heights).any() and not known.failed.any()
    # The first round of an adaptive rule is a spanning tree already.
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
    """Orders on the first rung, for as many of the pairs as `max_pairs` allows."""
    if options.max_pairs is not None:
        started = int(np.triu(np.isfinite(known.best) | known.failed, k=1).sum())
        pairs = pairs[: max(0, options.max_pairs - started)]
    return [Order(pair, 0) for pair in pairs]


class Rounds:
    """The rounds of one run, as far as their results are known.

    Attributes:
        known: the results of the orders.
        orders: all orders so far.
        waiting: orders of the last round that have no result; empty when no further path is needed.
        issued: all orders so far, by pair and rung.
        keys: keys of the paths of orders with a route; the plan computes and stores them here.
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
        rule: chooses the pairs.
        options: `pairs:` of the run file.
        losses: of the finished minima, by number.
        count: number of all minima.
        rungs: number of rungs.
        seed: of the run.
        through: whether paths start from finished ones.
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
        """Record results, round by round, until a round is not complete.

        Args:
            height: returns the height of an order, or None while it is not finished. It is called only for
                orders of these rounds.
            failed: returns whether an order ended without a result.
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
        # On a later rung a path keeps the route with which it started on the first rung.
        self.waiting = tuple(
            replace(order, via=self.issued[order.pair, 0].via) if order.rung else order
            for order in chosen
        )
        self.orders.extend(self.waiting)
        self.issued |= {(order.pair, order.rung): order for order in self.waiting}
