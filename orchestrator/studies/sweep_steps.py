"""The results of a sweep, one step for each of its runs."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.analysis.landscape import Landscape
from orchestrator.analysis.symmetric_minima import classes_of_equal_points
from orchestrator.planning.timing import sizes_of
from orchestrator.runs.stored_run import StartedRun
from topo_core.homology.bar_ends import EndKind


@dataclass(frozen=True)
class Step:
    """The results of one run of a sweep: a row of its table.

    Attributes:
        value: value of the key; None for the first run of the sweep if its run file does not set the key.
        run: name of the run.
        fresh: whether the paths were searched for anew, to compare with the paths of the sweep.
        minima: number of minima that are followed.
        distinct: number of different minima among them; symmetric copies and minima that merged count once.
        proved: number of minima that are proved to be minima.
        lowest: lowest loss of a minimum.
        unlisted: number of other minima, which are not followed, at ends of descents from saddles.
        lowest_unlisted: lowest loss of one of these; None if there are none.
        to_score: TO-score by the elder rule; None if some minima are not connected.
        error: estimate of what the dense sampling may have missed of a height; None if it is unknown.
        mean_bar: mean length of the finite bars, elder rule; None if there are none.
        bars: number of finite bars, without those that have no barrier.
        bars_at_saddles: number of finite bars that end at a verified saddle.
        ends: loss at which the bar of each minimum ends, elder rule, by number; None for an infinite bar.
        gradients: gradients over the whole training set of all minima (polish and verdicts), paths and
            saddles; a gradient on a minibatch counts as its share. Those of training are not counted.
        products: Hessian-vector products of all minima and saddles.
        seconds: working time of all workers.
    """

    value: Any
    run: str
    fresh: bool
    minima: int
    distinct: int
    proved: int
    lowest: float
    unlisted: int
    lowest_unlisted: float | None
    to_score: float | None
    error: float | None
    mean_bar: float | None
    bars: int
    bars_at_saddles: int
    ends: tuple[float | None, ...]
    gradients: int
    products: int
    seconds: float

    @property
    def cost(self) -> int:
        """Gradients and Hessian-vector products together."""
        return self.gradients + self.products

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def step_of(
    run: StartedRun,
    landscape: Landscape,
    value: Any,
    *,
    fresh: bool = False,
) -> Step:
    """Reduce the results of a run to one step of the sweep.

    Args:
        run: the run.
        landscape: its complete results.
        value: value of the swept key.
        fresh: whether the paths were searched for anew.

    Raises:
        Damaged: a minimum cannot be read.
    """
    bars = landscape.barcodes["elder"]
    score = landscape.to_scores["elder"]
    known = landscape.assessment
    epsilon = known.sampling.epsilon if known and known.sampling.estimated else float("inf")
    verified = landscape.verified.ends if landscape.verified else ()
    deaths = {bar.minimum: bar.death for bar in bars.finite}
    classes = landscape.classes() or classes_of_equal_points(run.store, landscape.minima)
    others = landscape.unlisted_ends
    return Step(
        value=value,
        run=landscape.run,
        fresh=fresh,
        minima=len(landscape.minima),
        distinct=len({*classes.values()}),
        proved=sum(record.verdict == "minimum" for record in landscape.minima.values()),
        lowest=min(landscape.losses.values()),
        unlisted=len(others),
        lowest_unlisted=others[0].loss if others else None,
        to_score=score if score < float("inf") else None,
        error=epsilon if epsilon < float("inf") else None,
        mean_bar=sum(bar.length for bar in bars.finite) / len(bars.finite) if bars.finite else None,
        bars=len(bars.finite) - sum(end.kind is EndKind.NO_BARRIER for end in verified),
        bars_at_saddles=sum(end.kind is EndKind.SADDLE for end in verified),
        ends=tuple(deaths.get(number) for number in sorted(landscape.minima)),
        gradients=_gradients(run, landscape),
        products=sum(row.products or 0 for row in landscape.cost),
        seconds=sum(row.seconds or 0.0 for row in landscape.cost),
    )


def differences(swept: Step, fresh: Step) -> tuple[float, ...]:
    """By how much the bar of each minimum ends higher in the first run than in the second.

    Args:
        swept, fresh: steps of runs of the same minima.

    Returns:
        One number for each minimum: infinite if its bar is finite in one run only, 0 if in neither.
    """
    return tuple(
        0.0 if a == b else (math.inf if a is None else a) - (math.inf if b is None else b)
        for a, b in zip(swept.ends, fresh.ends, strict=True)
    )


def _gradients(run: StartedRun, landscape: Landscape) -> int:
    """Gradients of a run in passes over the training set, without training."""
    paths = landscape.passes.values()
    on_paths = sum(record.gradient_evaluations for record in paths)
    examples = sizes_of(run.plan.run).examples
    batches = -(-examples // run.plan.path_settings.batch_size)
    exact = sum(record.judging_gradients for record in landscape.minima.values())
    exact += sum(record.gradients for record in landscape.saddles.values())
    return exact + round(on_paths / batches)
