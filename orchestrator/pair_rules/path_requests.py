"""Pairs of minima, and requests to optimise the path of a pair."""

from dataclasses import dataclass

Pair = tuple[int, int]
"""The numbers of two minima, the smaller one first."""

Rung = tuple[Pair, int]
"""A pair and a rung up to which its path is optimised; there is at most one request for each."""


@dataclass(frozen=True)
class PathRequest:
    """One path to be optimised up to a rung.

    Attributes:
        pair: the two minima.
        rung: position of the rung, from 0.
        via: finished paths that lead from the first minimum of the pair to the second; their concatenation is
            the initial path. Empty for a path that does not start from others.
    """

    pair: Pair
    rung: int
    via: tuple[Rung, ...] = ()
