"""Does a claim hold? A measure along an axis, within blocks that are alike in everything else: pure.

Three places or more on the axis: Page's test for ordered alternatives (Page 1963), each block ranked by
itself, so that a block with large losses does not outvote the others. Two places: the exact sign-flip
test of the differences within blocks (Fisher 1935), which also tests whether a measure is positive. Both
are one-sided, since a claim has a direction, and exact at these sizes. With n blocks no p-value of the
second is below 2⁻ⁿ, so with few seeds a claim can be seen in every block and still not be established:
the verdict says so.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise, product
from statistics import fmean, stdev
from typing import Any, Literal

import numpy as np
from scipy import stats

from orchestrator.studies.study import Claim

Verdict = Literal["holds", "same direction, not established", "does not hold", "not reached"]

LEVEL = 0.05
_EXACT_FLIPS = 14
"""Blocks up to which all sign patterns are gone through; beyond, the normal approximation is close."""

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Judgement:
    """A claim and what was found.

    Attributes:
        labels: of the places along the axis, in the order of the claim; none where there is no axis.
        means: of the measure at these places, over blocks.
        deviations: standard deviations over blocks; NaN for a single block.
        blocks: that are complete.
        agreeing: blocks in which every step goes the claimed way (ties do not).
        tau: Kendall's rank correlation of place and measure, mean over blocks, positive as claimed;
            without an axis, the share of blocks that agree less the share of those that do not.
        p: probability of as much agreement if the axis had no effect; NaN where it was not reached.
    """

    claim: Claim
    labels: tuple[str, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    blocks: int
    agreeing: int
    tau: float
    p: float
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        values = {**asdict(self), "claim": self.claim.model_dump(mode="json")}
        return {k: _finite(v) for k, v in values.items()}


def judge(
    claim: Claim, labels: Sequence[str], measured: Mapping[Labels, float | None]
) -> Judgement:
    """Judge a claim.

    Args:
        claim: its axis and direction.
        labels: places on that axis, in order.
        measured: the measure at each place of the matrix; None or NaN where there is none yet.
    """
    labels = tuple(label for label in labels if label in claim.among or not claim.among)
    rows = _blocks(claim, labels, measured)
    if claim.expect == "positive":
        return _judge_sign(claim, [row[0] for row in rows])
    sign = 1.0 if claim.expect == "rises" else -1.0
    values = np.array(rows, dtype=float).reshape(len(rows), len(labels))
    if len(rows) == 0 or len(labels) < 2:
        nothing = (math.nan,) * len(labels)
        return Judgement(
            claim, tuple(labels), nothing, nothing, 0, 0, math.nan, math.nan, "not reached"
        )
    directed = sign * values
    agreeing = sum(all(b > a for a, b in pairwise(row)) for row in directed.tolist())
    taus = [float(stats.kendalltau(range(len(labels)), row).statistic) for row in directed]
    tau = fmean(0.0 if math.isnan(t) else t for t in taus)
    p = _page(directed) if len(labels) > 2 else _sign_flips(directed[:, 1] - directed[:, 0])
    deviations = values.std(0, ddof=1) if len(rows) > 1 else np.full(len(labels), math.nan)
    return Judgement(
        claim,
        tuple(labels),
        tuple(values.mean(0).tolist()),
        tuple(deviations.tolist()),
        len(rows),
        agreeing,
        tau,
        p,
        _verdict(p, tau),
    )


def _judge_sign(claim: Claim, values: Sequence[float]) -> Judgement:
    """Of a measure that should be above zero in every block."""
    if not values:
        return Judgement(claim, (), (), (), 0, 0, math.nan, math.nan, "not reached")
    agreeing = sum(v > 0 for v in values)
    tau = (agreeing - sum(v < 0 for v in values)) / len(values)
    p = _sign_flips(np.array(values))
    return Judgement(
        claim,
        (),
        (fmean(values),),
        (stdev(values) if len(values) > 1 else math.nan,),
        len(values),
        agreeing,
        tau,
        p,
        _verdict(p, tau),
    )


def _verdict(p: float, tau: float) -> Verdict:
    if p < LEVEL:
        return "holds"
    return "same direction, not established" if tau > 0 else "does not hold"


def _blocks(
    claim: Claim, labels: Sequence[str], measured: Mapping[Labels, float | None]
) -> list[list[float]]:
    """For each block that is complete, the measure at each of the labels; without an axis, one value."""
    blocks: dict[Labels, dict[str, float]] = {}
    for place, value in measured.items():
        if value is None or math.isnan(value):
            continue
        if any(label not in claim.only.get(axis, [label]) for axis, label in place):
            continue
        others = tuple((axis, label) for axis, label in place if axis != claim.along)
        here = dict(place)[claim.along] if claim.along else ""
        blocks.setdefault(others, {})[here] = value
    wanted = labels if claim.along else ("",)
    return [[b[label] for label in wanted] for b in blocks.values() if set(wanted) <= set(b)]


def _page(rows: np.ndarray[Any, Any]) -> float:
    """Page's L over blocks; with one block, the exact one-sided test of Kendall's tau."""
    if len(rows) == 1:
        test = stats.kendalltau(range(rows.shape[1]), rows[0], alternative="greater")
        return float(test.pvalue)
    return float(stats.page_trend_test(rows).pvalue)


def _sign_flips(differences: np.ndarray[Any, Any]) -> float:
    """One-sided: how often flipping signs at random gives a sum as large as the observed one."""
    found = differences.sum()
    if len(differences) > _EXACT_FLIPS:
        return float(stats.norm.sf(found / math.sqrt(float((differences**2).sum()) or 1.0)))
    flips = np.array(list(product((1.0, -1.0), repeat=len(differences))))
    # A sum of the same numbers in another order is the same sum.
    return float(np.mean(flips @ differences >= found - 1e-12 * np.abs(differences).sum()))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return [_finite(v) for v in value] if isinstance(value, tuple | list) else value
