"""The numbers at the top of a report."""

import math

from orchestrator.analysis.escape import Escape, escape_of_run
from orchestrator.analysis.landscape import Landscape
from orchestrator.planning.plan import Plan
from orchestrator.report.barcodes import RULES
from orchestrator.report.page import Number
from orchestrator.report.style import number
from orchestrator.telemetry.durations import human_seconds
from topo_core.homology.to_scores import to_score


def _of_escape(escape: Escape) -> list[Number]:
    """The numbers of a run that asks for passes from one minimum: not all of its minima are connected."""
    loss = Number("Loss", number(escape.loss), f"of minimum {escape.minimum}")
    if escape.to is None:
        return [loss, Number("Lower minima", f"{escape.lower:,} of {escape.searched:,}")]
    kind = "a verified saddle" if escape.verified else "an upper bound"
    barrier = max(0.0, escape.barrier)
    return [
        Number("Barrier", number(barrier), f"above minimum {escape.minimum}"),
        Number("Pass", number(escape.height), kind if barrier else "no barrier"),
        loss,
        Number("Loss beyond the pass", number(escape.to_loss), f"of minimum {escape.to}"),
    ]


def numbers(plan: Plan, landscape: Landscape) -> list[Number]:
    """The numbers of a run: its scores, or those of the question that its pair rule asks, and its size."""
    counts = landscape.counts
    seconds = sum(row.seconds or 0.0 for row in landscape.cost)
    skipped = f", {counts.skipped:,} not asked for" if counts.skipped else ""
    sizes = [
        Number("Minima", f"{len(landscape.minima):,} of {landscape.minima_expected:,}"),
        Number("Paths", f"{counts.done:,} of {counts.total:,}", skipped.strip(", ")),
        Number("Work", human_seconds(seconds), "of one worker, all tasks together"),
    ]
    escape = escape_of_run(plan.run, landscape)
    if escape is not None:
        return [*_of_escape(escape), *sizes]
    known = landscape.assessment
    if known is None:
        return sizes
    sampling, convergence = known.sampling, known.convergence
    if math.isinf(sampling.to_score):
        note = "some minima are not connected yet"
    else:
        note = _sampling_note(sampling.epsilon)
    direct = landscape.to_scores["direct"]
    lowest = min(landscape.losses.items(), key=lambda item: (item[1], item[0]))
    scores = [
        Number(f"TO-score ({RULES['elder']})", number(sampling.to_score), note),
        Number(f"TO-score ({RULES['direct']})", number(direct), "without an error estimate"),
    ]
    if landscape.homology:
        scores += [
            Number(
                f"TO-score of index {index}",
                number(to_score(bars)),
                _sampling_note(landscape.homology.epsilon),
            )
            for index, bars in landscape.homology.barcodes.items()
        ]
        scores.append(
            Number(
                "TO-score of index 0 on the same simplices",
                number(to_score(landscape.homology.index_0)),
                "edges are polygons on the lattice of the triangles",
            )
        )
    if convergence.unconverged and math.isfinite(convergence.largest_fall):
        scores.append(
            Number(
                "Bars may still shorten by",
                number(convergence.largest_fall),
                "an estimate for more epochs, not a bound",
            )
        )
    if known.jackknife and math.isfinite(known.jackknife.standard_error):
        scores.append(
            Number(
                "Jackknife over minima",
                f"± {number(known.jackknife.standard_error)}",
                f"minimum {known.jackknife.most_influential} has the largest influence",
            )
        )
    return [*scores, Number("Lowest loss", number(lowest[1]), f"minimum {lowest[0]}"), *sizes]


def _sampling_note(epsilon: float) -> str:
    if math.isfinite(epsilon):
        return f"sampling error about {epsilon:.1g} on these paths (an estimate)"
    return "sampling error not estimated: heights are at fixed points of each segment"
