"""Rounds of paths: each round depends only on the results of the complete rounds before it.

So a run that is killed and started again chooses the same pairs, in whatever order its workers finish.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from orchestrator.pair_rules.pair_results import PairResults
from orchestrator.pair_rules.path_requests import Pair, PathRequest, Rung
from orchestrator.pair_rules.protocol import PairOptions, PairRule
from orchestrator.pair_rules.routes import routed, spanning
from orchestrator.pair_rules.rungs import promotions


def next_round(
    rule: PairRule, options: PairOptions, known: PairResults, seed: int, *, through: bool = False
) -> list[PathRequest]:
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
        return _requests(options, known, spanning(first, known) if in_two_parts else first)
    if in_two_parts:
        rest = [pair for pair in rule.first(options, known, seed) if known.open[pair]]
        if requests := _requests(options, known, rest):
            return routed(requests, known)
    if promoted := promotions(known, options.tolerance):
        return promoted
    requests = _requests(options, known, rule.later(options, known))
    return routed(requests, known) if through else requests


def _requests(options: PairOptions, known: PairResults, pairs: list[Pair]) -> list[PathRequest]:
    """Orders on the first rung, for as many of the pairs as `max_pairs` allows."""
    if options.max_pairs is not None:
        started = int(np.triu(np.isfinite(known.best) | known.failed, k=1).sum())
        pairs = pairs[: max(0, options.max_pairs - started)]
    return [PathRequest(pair, 0) for pair in pairs]


class Rounds:
    """The rounds of one run, as far as their results are known.

    Attributes:
        known: the results of the requests.
        requests: all requests so far.
        waiting: requests of the last round that have no result; empty when no further path is needed.
        issued: all requests so far, by pair and rung.
        keys: keys of the paths of requests with a route; the plan computes and stores them here.
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
        self.known = PairResults(losses, count, rungs)
        self.requests: list[PathRequest] = []
        self.waiting: tuple[PathRequest, ...] = ()
        self.issued: dict[Rung, PathRequest] = {}
        self.keys: dict[PathRequest, str] = {}
        self._rule, self._options, self._seed, self._through = rule, options, seed, through
        self._next()

    def advance(
        self, height: Callable[[PathRequest], float | None], failed: Callable[[PathRequest], bool]
    ) -> None:
        """Record results, round by round, until a round is not complete.

        Args:
            height: returns the height of a request, or None while it is not finished. It is called only for
                requests of these rounds.
            failed: returns whether a request ended without a result.
        """
        while self.waiting:
            waiting = []
            for request in self.waiting:
                measured = height(request)
                if measured is not None:
                    self.known.record_height(request, measured)
                elif failed(request):
                    self.known.record_failure(request.pair)
                else:
                    waiting.append(request)
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
            replace(request, via=self.issued[request.pair, 0].via) if request.rung else request
            for request in chosen
        )
        self.requests.extend(self.waiting)
        self.issued |= {(request.pair, request.rung): request for request in self.waiting}
