"""The protocol of pair rules, and the base class of those that do not depend on results."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol

import numpy as np

from orchestrator.pair_rules.pair_results import PairResults
from orchestrator.pair_rules.path_requests import Pair


class PairOptions(Protocol):
    """The keys of `pairs:` in a run file that pair rules read."""

    @property
    def tolerance(self) -> float:
        """Largest accepted error of the death of a bar, in units of the loss."""

    @property
    def pairs(self) -> Sequence[Pair]:
        """The pairs that the run file lists."""

    @property
    def minimum(self) -> int:
        """Number of the minimum from which all paths start (`rule: from`)."""

    @property
    def per_minimum(self) -> int:
        """Number of pairs drawn for each minimum (`rule: random`)."""

    @property
    def max_pairs(self) -> int | None:
        """Largest number of pairs for which a path is optimised; None for no limit."""


class PairRule(Protocol):
    """Chooses the pairs of minima for which a path is optimised.

    All methods are pure functions, so a run that is started again chooses the same pairs.

    Attributes:
        adaptive: whether later pairs depend on the results of earlier ones.
        open_ended: whether the rule also chooses pairs with minima that are discovered during the run.
    """

    adaptive: bool
    open_ended: bool

    def check(self, options: PairOptions) -> None:
        """Check that the rule can use the options.

        Raises:
            ValueError: it cannot; the message is one sentence that begins with the key.
        """

    def candidates(self, options: PairOptions, minima: int, seed: int) -> Iterator[Pair]:
        """All pairs that the rule may choose, whatever the results; each is (i, j) with i < j.

        They are ordered by the larger index, so that paths between the first minima can start while the
        others are still trained.
        """

    def count(self, options: PairOptions, minima: int, seed: int) -> int:
        """The number of candidates, without regard to `max_pairs`."""

    def least(self, options: PairOptions, minima: int, seed: int) -> int:
        """The smallest number of pairs that the rule may choose, without regard to `max_pairs`."""

    def first(self, options: PairOptions, known: PairResults, seed: int) -> list[Pair]:
        """The pairs of the first round, among the minima that have a loss."""

    def later(self, options: PairOptions, known: PairResults) -> list[Pair]:
        """The pairs of the next round, most informative first; empty when no further path is needed."""


class FixedRule:
    """Base class of rules with one round, which holds all candidates.

    A subclass implements `candidates`. Adaptive rules that derive from it override `adaptive`, `first` or
    `later`.
    """

    adaptive = False
    open_ended = True

    def check(self, options: PairOptions) -> None:
        """Accept all options."""

    def candidates(self, options: PairOptions, minima: int, seed: int) -> Iterator[Pair]:
        raise NotImplementedError

    def count(self, options: PairOptions, minima: int, seed: int) -> int:
        return sum(1 for _ in self.candidates(options, minima, seed))

    def least(self, options: PairOptions, minima: int, seed: int) -> int:
        return self.count(options, minima, seed)

    def first(self, options: PairOptions, known: PairResults, seed: int) -> list[Pair]:
        there = np.isfinite(known.losses)
        pairs = islice(self.candidates(options, known.count, seed), options.max_pairs)
        return [(i, j) for i, j in pairs if there[i] and there[j]]

    def later(self, options: PairOptions, known: PairResults) -> list[Pair]:
        return []
