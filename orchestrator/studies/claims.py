"""Tests of claims: does a measure change along an axis as claimed, in blocks that are equal otherwise? Pure.

With three or more labels on the axis: Page's test for ordered alternatives (Page 1963). Each block is ranked
by itself, so that blocks with large losses have no more weight than others. With two labels: the exact
sign-flip test of the differences within blocks (Fisher 1935), which also tests whether a measure is
positive. Both tests are one-sided, since a claim has a direction, and exact at these sizes. With n blocks no
p-value of the second test is below 2⁻ⁿ, so with few seeds every block may agree with a claim that is still
not established. A study makes several claims, so p-values are adjusted by Holm's method (Holm 1979), and
verdicts follow from the adjusted values.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise, product
from statistics import fmean, stdev
from typing import Any, Literal

import numpy as np
from scipy import stats

from orchestrator.studies.study_file import Claim

Verdict = Literal["holds", "same direction, not established", "does not hold", "not reached"]

LEVEL = 0.05
"""Family-wise level of the tests of one study."""

_EXACT_FLIPS = 14
"""Largest number of blocks for which all sign patterns are enumerated; with more, the normal
approximation is close."""

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Judgement:
    """A claim and the result of its test.

    Attributes:
        labels: labels along the axis, in the order of the claim; empty for a claim without an axis.
        means: mean of the measure over blocks, for each label.
        deviations: standard deviations over blocks; NaN for a single block.
        blocks: number of complete blocks.
        agreeing: number of blocks in which every step has the claimed sign (ties do not).
        tau: Kendall's rank correlation of label and measure, averaged over blocks, positive in the claimed
            direction; without an axis, the share of agreeing blocks minus the share of the others.
        p: p-value of this claim alone; NaN where no block is complete.
        p_holm: p-value adjusted for all claims of the study by Holm's method.
    """

    claim: Claim
    labels: tuple[str, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    blocks: int
    agreeing: int
    tau: float
    p: float
    p_holm: float = math.nan

    @property
    def verdict(self) -> Verdict:
        """Of the adjusted p-value."""
        if math.isnan(self.p):
            return "not reached"
        if self.p_holm < LEVEL:
            return "holds"
        return "same direction, not established" if self.tau > 0 else "does not hold"

    def to_json(self) -> dict[str, Any]:
        claim = self.claim.model_dump(mode="json")
        values = {**asdict(self), "claim": claim, "verdict": self.verdict}
        return {k: _finite(v) for k, v in values.items()}


def adjusted(judgements: Sequence[Judgement]) -> tuple[Judgement, ...]:
    """The same judgements with p-values adjusted by Holm's method; claims without a p-value do not count."""
    reached = sorted((j for j in judgements if not math.isnan(j.p)), key=lambda j: j.p)
    holm: dict[int, float] = {}
    largest = 0.0
    for rank, judgement in enumerate(reached):
        largest = max(largest, min(1.0, (len(reached) - rank) * judgement.p))
        holm[id(judgement)] = largest
    return tuple(replace(j, p_holm=holm.get(id(j), math.nan)) for j in judgements)


def judge(
    claim: Claim, labels: Sequence[str], measured: Mapping[Labels, float | None]
) -> Judgement:
    """Test one claim by itself; ``adjusted`` adjusts the p-values of several.

    Args:
        claim: its axis and direction.
        labels: labels on that axis, in order.
        measured: the measure in each cell of the matrix; None or NaN where there is none yet.
    """
    labels = tuple(label for label in labels if label in claim.among or not claim.among)
    rows = _blocks(claim, labels, measured)
    if claim.expect == "positive":
        return _judge_sign(claim, [row[0] for row in rows])
    sign = 1.0 if claim.expect == "rises" else -1.0
    values = np.array(rows, dtype=float).reshape(len(rows), len(labels))
    if len(rows) == 0 or len(labels) < 2:
        nothing = (math.nan,) * len(labels)
        return Judgement(claim, tuple(labels), nothing, nothing, 0, 0, math.nan, math.nan)
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
        p,
    )


def _judge_sign(claim: Claim, values: Sequence[float]) -> Judgement:
    """Test a measure that should be above zero in every block."""
    if not values:
        return Judgement(claim, (), (), (), 0, 0, math.nan, math.nan)
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
        p,
    )


def _blocks(
    claim: Claim, labels: Sequence[str], measured: Mapping[Labels, float | None]
) -> list[list[float]]:
    """The measure at each label, one row for each complete block; without an axis, rows of one value."""
    blocks: dict[Labels, dict[str, float]] = {}
    for cell, value in measured.items():
        if value is None or math.isnan(value):
            continue
        if any(label not in claim.only.get(axis, [label]) for axis, label in cell):
            continue
        others = tuple((axis, label) for axis, label in cell if axis != claim.along)
        here = dict(cell)[claim.along] if claim.along else ""
        blocks.setdefault(others, {})[here] = value
    wanted = labels if claim.along else ("",)
    return [[b[label] for label in wanted] for b in blocks.values() if set(wanted) <= set(b)]


def _page(rows: np.ndarray[Any, Any]) -> float:
    """p-value of Page's L over blocks; of the exact one-sided test of Kendall's tau for one block."""
    if len(rows) == 1:
        test = stats.kendalltau(range(rows.shape[1]), rows[0], alternative="greater")
        return float(test.pvalue)
    return float(stats.page_trend_test(rows).pvalue)


def _sign_flips(differences: np.ndarray[Any, Any]) -> float:
    """One-sided p-value: the share of sign patterns whose sum is at least the observed one."""
    observed = differences.sum()
    if len(differences) > _EXACT_FLIPS:
        return float(stats.norm.sf(observed / math.sqrt(float((differences**2).sum()) or 1.0)))
    flips = np.array(list(product((1.0, -1.0), repeat=len(differences))))
    # The tolerance covers rounding in sums of the same numbers in another order.
    return float(np.mean(flips @ differences >= observed - 1e-12 * np.abs(differences).sum()))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return [_finite(v) for v in value] if isinstance(value, tuple | list) else value
