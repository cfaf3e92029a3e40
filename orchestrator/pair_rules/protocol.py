"""The protocol of pair rules."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol

import numpy as np

from orchestrator.pair_rules.knowledge import Knowledge
from orchestrator.pair_rules.orders import Pair


class PairOptions(Protocol):
    """The keys of `pairs:` in a run file that rules read."""

    @property
    def tolerance(self) -> float:
        """Largest error of a bar's end that is accepted, in units of the loss."""

    @property
    def pairs(self) -> Sequence[Pair]:
        """Pairs that are listed in the run file."""

    @property
    def minimum(self) -> int:
        """The minimum that paths lead out of."""

    @property
    def per_minimum(self) -> int:
        """Pairs drawn for each minimum."""

    @property
    def max_pairs(self) -> int | None:
        """Budget: largest number of pairs with a path."""


class PairRule(Protocol):
    """Names the pairs of minima that are joined by a path.

    All methods are pure: a run that is started again chooses the same pairs.

    Attributes:
        adaptive: whether later pairs depend on the results of earlier ones.
        open_ended: whether the rule also joins minima that are discovered during the run.
    """

    adaptive: bool
    open_ended: bool

    def check(self, options: PairOptions) -> None:
        """Refuse options that the rule cannot work with.

        Raises:
            ValueError: one sentence that begins with the key.
        """

    def candidates(self, options: PairOptions, minima: int, seed: int) -> Iterator[Pair]:
        """The pairs that the rule may name before any result is known, each (i, j) with i < j.

        They come ordered by the larger index: paths between the first minima can start while the others
        are trained.
        """

    def count(self, options: PairOptions, minima: int, seed: int) -> int:
        """How many candidates there are, whatever the budget."""

    def least(self, options: PairOptions, minima: int, seed: int) -> int:
        """How many pairs the rule names at least."""

    def first(self, options: PairOptions, known: Knowledge, seed: int) -> list[Pair]:
        """The pairs of the first round, among finished minima."""

    def later(self, options: PairOptions, known: Knowledge) -> list[Pair]:
        """The pairs of the next round, most informative first; none when the rule is satisfied."""


class FixedRule:
    """Base of the rules that do not depend on results: they have one round, of all their candidates."""

    adaptive = False
    open_ended = True

    def check(self, options: PairOptions) -> None:
        """All options are allowed."""

    def candidates(self, options: PairOptions, minima: int, seed: int) -> Iterator[Pair]:
        raise NotImplementedError

    def count(self, options: PairOptions, minima: int, seed: int) -> int:
        return sum(1 for _ in self.candidates(options, minima, seed))

    def least(self, options: PairOptions, minima: int, seed: int) -> int:
        return self.count(options, minima, seed)

    def first(self, options: PairOptions, known: Knowledge, seed: int) -> list[Pair]:
        there = np.isfinite(known.losses)
        pairs = islice(self.candidates(options, known.count, seed), options.max_pairs)
        return [(i, j) for i, j in pairs if there[i] and there[j]]

    def later(self, options: PairOptions, known: Knowledge) -> list[Pair]:
        return []
