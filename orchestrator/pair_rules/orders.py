"""Pairs of minima, and orders for their paths."""

from dataclasses import dataclass

Pair = tuple[int, int]
"""Two minima, by number, the smaller one first."""

Rung = tuple[Pair, int]
"""The path of a pair up to a rung, which is ordered at most once."""


@dataclass(frozen=True)
class Order:
    """One path to be optimised up to a rung.

    Attributes:
        via: finished paths from the first minimum of the pair to the second, whose concatenation is the
            starting path; empty for a path with a start of its own.
    """

    pair: Pair
    rung: int
    via: tuple[Rung, ...] = ()
