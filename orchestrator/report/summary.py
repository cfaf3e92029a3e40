"""The summary at the top of a report: the problem, the result, and which part of the result is verified."""

import math

from orchestrator.analysis.escape import escape_of_run
from orchestrator.analysis.landscape import Landscape
from orchestrator.planning.plan import Plan
from orchestrator.report.style import number
from topo_core.homology.bar_ends import EndKind


def summary(plan: Plan, landscape: Landscape) -> list[str]:
    """One sentence each on the problem, the result and its verification; empty if there are no minima.

    A run that asks for passes from one minimum (`pairs: {rule: from}`) has the answer to that question.
    """
    if not landscape.minima:
        return []
    escape = escape_of_run(plan.run, landscape)
    if escape is not None:
        asked = f"The question was how hard it is to leave minimum {escape.minimum}."
        return [f"{_asked(plan, landscape)} {asked}", str(escape)]
    return [_asked(plan, landscape), _result(landscape), _verified(landscape)]


def has_length(landscape: Landscape) -> bool:
    """Whether a finite bar of index 0 (elder rule) is longer than twice the sampling error of a height."""
    assessment = landscape.assessment
    if assessment is None:
        return False
    epsilon = assessment.sampling.epsilon if math.isfinite(assessment.sampling.epsilon) else 0.0
    return any(bar.length > 2 * epsilon for bar in landscape.barcodes["elder"].finite)


def _asked(plan: Plan, landscape: Landscape) -> str:
    spec, counts = plan.run, landscape.counts
    verdicts = [record.verdict for record in landscape.minima.values()]
    proved = sum(verdict == "minimum" for verdict in verdicts)
    judged = f" ({proved:,} of {len(verdicts):,} proved to be minima)" if any(verdicts) else ""
    return (
        f"{len(verdicts):,} minima{judged} of the network {spec.network.name} on the data "
        f"{spec.data.name} were joined by {counts.done:,} paths"
        + (f" ({counts.total:,} pairs in all)" if counts.done < counts.total else "")
        + ", each optimised to a low maximum of the training loss."
    )


def _result(landscape: Landscape) -> str:
    score = landscape.to_scores["elder"]
    if math.isinf(score):
        return "The TO-score is infinite: some minima are not connected to a lower one yet."
    longest = landscape.barcodes["elder"].longest
    if longest is None:
        return "There is one minimum, so no bar is finite and the TO-score is 0."
    if not has_length(landscape):
        return (
            f"The TO-score is {number(score)}: no bar is longer than its sampling error, so no barrier "
            "was found between these minima."
        )
    i, j = longest.saddle or (longest.minimum, longest.minimum)
    return (
        f"The TO-score is {number(score)}: the longest finite bar is that of minimum {longest.minimum}, "
        f"from its loss {number(longest.birth)} to {number(longest.death)} on path {i}–{j}."
    )


def _verified(landscape: Landscape) -> str:
    finite = len(landscape.barcodes["elder"].finite)
    if landscape.verified is None:
        return (
            f"The ends of the {finite} finite bars are upper bounds, the highest losses on paths; no saddle "
            "was searched for, so lower passes may exist."
        )
    saddles = landscape.verified.count(EndKind.SADDLE)
    kinks = landscape.verified.count(EndKind.KINK)
    flat = landscape.verified.count(EndKind.NO_BARRIER)
    rest = finite - saddles - kinks - flat
    parts = [f"{saddles} of {finite} finite bars end at a verified saddle of index 1"]
    if kinks:
        parts.append(f"{kinks} at a kink of the loss")
    if flat:
        parts.append(f"{flat} at their own minimum, since a path to a lower one has no barrier")
    if rest:
        parts.append(f"{rest} at the highest loss on a path, which is an upper bound")
    return ", ".join(parts) + "."
