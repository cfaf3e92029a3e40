"""Spearman's rank correlation with a bootstrap interval and a permutation test, for few samples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from scipy.stats import rankdata

from orchestrator.report.style import signed
from topo_core.random_streams import generator

RESAMPLES = 4000
"""Number of bootstrap resamples and of random permutations; p-values resolve 1/4001."""

LEVEL = 0.95
"""Nominal coverage of the interval."""

FEW = 10
"""Number of pairs below which percentile bootstrap intervals are too narrow, so that a warning is given."""

ALL_ORDERS_UP_TO = 7
"""Number of pairs up to which all permutations are enumerated (7! = 5040); with more, ``RESAMPLES`` random
ones are drawn."""


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rho with a percentile bootstrap interval (Efron & Tibshirani 1993, ch. 13).

    Attributes:
        rho: the correlation; NaN for fewer than three pairs, or if one side is constant.
        low, high: ends of the interval; NaN if there is none.
        level: nominal coverage of the interval.
        count: number of pairs.
        resamples: number of bootstrap resamples in which neither side is constant; the others are dropped.
        p: two-sided p-value of a permutation test: the share of permutations of one side for which |rho| is
            at least as large, the observed order included.
    """

    rho: float
    low: float
    high: float
    level: float
    count: int
    resamples: int
    p: float = math.nan

    @property
    def sentence(self) -> str:
        """The result in words, with a warning if there are fewer than `FEW` pairs."""
        if math.isnan(self.rho):
            return (
                f"Spearman's ρ is not defined for these {self.count} minima: "
                "three or more with different values are needed."
            )
        few = (
            f" With {self.count} minima such an interval is too narrow: use the p-value."
            if self.count < FEW
            else ""
        )
        return (
            f"Spearman's ρ = {signed(self.rho)}, {self.level:.0%} bootstrap interval "
            f"[{signed(self.low)}, {signed(self.high)}] (n = {self.count}, {self.resamples} "
            f"resamples), permutation test p = "
            f"{self.p:.2g}.{few}"
        )


def rank_correlation(x: Sequence[float], y: Sequence[float], *draws: int | str) -> RankCorrelation:
    """Spearman's rank correlation of pairs; tied values have their mean rank.

    Args:
        x, y: values of equal length; pairs with a value that is not finite are dropped.
        draws: seed of the resamples and permutations.
    """
    both = np.array([x, y], dtype=np.float64)
    both = both[:, np.isfinite(both).all(axis=0)]
    count = both.shape[1]
    if count < 3:
        return RankCorrelation(math.nan, math.nan, math.nan, LEVEL, count, 0)
    rho = float(_rho(both[0][None], both[1][None])[0])
    if math.isnan(rho):
        return RankCorrelation(rho, rho, rho, LEVEL, count, 0)
    resampled: list[np.ndarray] = []
    chunk = max(1, min(RESAMPLES, 2_000_000 // count))
    source = np.random.Generator(np.random.PCG64(generator("bootstrap", *draws).initial_seed()))
    for first in range(0, RESAMPLES, chunk):
        chosen = source.integers(count, size=(min(chunk, RESAMPLES - first), count))
        resampled.append(_rho(both[0][chosen], both[1][chosen]))
    drawn = np.concatenate(resampled)
    drawn = drawn[np.isfinite(drawn)]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail]) if len(drawn) else (math.nan, math.nan)
    p = _permutation_p(both[0], both[1], source)
    return RankCorrelation(rho, float(low), float(high), LEVEL, count, len(drawn), p)


def _permutation_p(x: np.ndarray, y: np.ndarray, source: np.random.Generator) -> float:
    """p-value of a two-sided permutation test (Good 2005) of Spearman's rho, for x and y of shape [n]."""
    a, b = rankdata(x), rankdata(y)
    a -= a.mean()
    b -= b.mean()
    observed = abs(float(a @ b)) * (1 - 1e-9)  # values equal up to rounding count as equal
    if len(b) <= ALL_ORDERS_UP_TO:
        orders = np.array(list(permutations(b)))
        return float(np.mean(np.abs(orders @ a) >= observed))
    beyond = sum(abs(float(source.permutation(b) @ a)) >= observed for _ in range(RESAMPLES))
    return (1 + beyond) / (1 + RESAMPLES)


def _rho(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's correlation [b] of the ranks of x and y [b, n] in each row; NaN if a side is constant."""
    a, b = rankdata(x, axis=1), rankdata(y, axis=1)
    a -= a.mean(axis=1, keepdims=True)
    b -= b.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho: np.ndarray = (a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
        return rho
