"""Hypothesis tests of the claims of a study. Pure.

A claim says that a measure falls or rises along an axis of the matrix, or that it is positive. A block is a
set of runs that differ only in their label on that axis.

- Three or more labels: Page's test for ordered alternatives (Page 1963). The runs are ranked within each
  block, so a block with large losses has no more weight than another. A single block is tested with
  Kendall's tau instead.
- Two labels: the sign-flip test of the differences within blocks (Fisher 1935). The same test is used for
  the claim that a measure is positive. It is exact up to `_EXACT_FLIPS` blocks.

Both tests are one-sided, because a claim has a direction. With n blocks the p-value of the sign-flip test is
at least 2⁻ⁿ, so with few seeds a claim may be not established although every block agrees with it. A study
makes several claims, so the p-values are adjusted by Holm's method (Holm 1979), and the verdicts follow from
the adjusted values.
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
from orchestrator.telemetry.json_values import finite_or_none

Verdict = Literal["holds", "same direction, not established", "does not hold", "not reached"]

LEVEL = 0.05
"""Family-wise significance level of the tests of one study: the conventional 5 %."""

_EXACT_FLIPS = 14
"""Largest number of blocks for which all 2ⁿ sign patterns are enumerated. With 14 blocks they take 2 MiB;
with more blocks the normal approximation is close."""

Labels = tuple[tuple[str, str], ...]
"""Pairs (axis, label): one cell of the matrix of a study."""


@dataclass(frozen=True)
class Judgement:
    """A claim and the result of its test.

    Attributes:
        claim: the claim.
        labels: labels along the axis, in the order of the claim; empty for a claim without an axis.
        means: mean of the measure over blocks, for each label.
        deviations: standard deviations over blocks; NaN for a single block.
        blocks: number of complete blocks.
        agreeing: number of blocks in which each difference of neighbouring labels has the claimed sign; a tie
            does not agree.
        tau: Kendall's rank correlation of label and measure, averaged over blocks, positive in the claimed
            direction. Without an axis: the share of blocks with a positive value minus the share of blocks
            with a negative one.
        p: unadjusted p-value; NaN if no block is complete.
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
        """The conclusion from the adjusted p-value, at the significance level `LEVEL`."""
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
    """Set `p_holm` of each judgement by Holm's method; claims without a p-value are not counted."""
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
    """Test one claim; ``adjusted`` then adjusts the p-values of all claims of a study.

    Args:
        claim: the claim, with its axis and direction.
        labels: all labels on that axis, in order.
        measured: the value of the measure in each cell of the matrix; None or NaN if it is not known yet.
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
    """Test the claim that a measure is positive, on one value for each block."""
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
    """The values of the measure, one row for each complete block and one column for each label.

    Without an axis each row has one value.
    """
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
    """One-sided p-value of Page's L for rows [blocks, labels]; for one block, of Kendall's tau."""
    if len(rows) == 1:
        test = stats.kendalltau(range(rows.shape[1]), rows[0], alternative="greater")
        return float(test.pvalue)
    return float(stats.page_trend_test(rows).pvalue)


def _sign_flips(differences: np.ndarray[Any, Any]) -> float:
    """One-sided p-value of differences [n]: the share of sign patterns with at least the observed sum."""
    observed = differences.sum()
    if len(differences) > _EXACT_FLIPS:
        return float(stats.norm.sf(observed / math.sqrt(float((differences**2).sum()) or 1.0)))
    flips = np.array(list(product((1.0, -1.0), repeat=len(differences))))
    # The tolerance covers rounding in sums of the same numbers in another order.
    return float(np.mean(flips @ differences >= observed - 1e-12 * np.abs(differences).sum()))


def _finite(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_finite(v) for v in value]
    return finite_or_none(value)
