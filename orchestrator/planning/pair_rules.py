"""Which pairs of minima are joined: rules as pure functions."""

import hashlib
from collections.abc import Iterator

from orchestrator.run_file.models import Pairs

Pair = tuple[int, int]
"""Two minima, by number, the smaller one first."""


def listed_pairs(rule: Pairs, minima: int, seed: int) -> Iterator[Pair]:
    """The pairs of a rule that does not look at results, each (i, j) with i < j.

    They come ordered by the larger index: as soon as the first minima are trained, paths between
    them can start. `max_pairs` cuts every rule.
    """
    match rule.rule:
        case "list":
            pairs: Iterator[Pair] = iter(
                sorted({(min(p), max(p)) for p in rule.pairs}, key=lambda p: (p[1], p[0]))
            )
        case "random":
            pairs = iter(_random_pairs(minima, rule.per_minimum, seed))
        case "all" | "lazy":
            pairs = ((i, j) for j in range(minima) for i in range(j))
    if rule.max_pairs is None:
        return pairs
    return (pair for pair, _ in zip(pairs, range(rule.max_pairs), strict=False))


def _random_pairs(minima: int, per_minimum: int, seed: int) -> list[Pair]:
    """For each minimum its `per_minimum` partners of lowest hash: adding a minimum moves few pairs."""

    def rank(i: int, j: int) -> bytes:
        low, high = sorted((i, j))
        return hashlib.sha256(f"{seed}:{low}:{high}".encode()).digest()

    chosen = set()
    for i in range(minima):
        partners = sorted((j for j in range(minima) if j != i), key=lambda j: rank(i, j))
        chosen |= {(min(i, j), max(i, j)) for j in partners[:per_minimum]}
    return sorted(chosen, key=lambda p: (p[1], p[0]))
