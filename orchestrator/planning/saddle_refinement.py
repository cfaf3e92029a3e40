"""The paths that are led over saddles once all paths are complete: a pure function of the results.

`bars` chooses the paths at which bars of the elder barcode end, `all` every path. The choice goes by the
heights before: leading a path over saddles only lowers it, and bars then still end at the same paths.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from orchestrator.pair_rules.orders import Pair
from orchestrator.planning.path_status import path_status
from orchestrator.planning.plan import Plan
from topo_core.homology.barcodes import barcode
from workers.storage.run_store import Store
from workers.storage.schema import MinimumRecord, PairRecord, SaddleRecord
from workers.tasks.saddle_tasks import RefineSaddle

SAME_LOSS = 1e-6
"""Relative difference of losses up to which two ends of descents are one minimum: the rounding of float32."""


def saddles_of_store(plan: Plan, store: Store) -> list[RefineSaddle]:
    """``saddles_to_refine`` from the records of a store.

    Args:
        plan: of the run, with the minima that were discovered.
        store: of the run.
    """
    if not plan.refines_saddles:
        return []
    by_key = {record.key: record.loss for record in store.records(MinimumRecord, lists=False)}
    losses = {i: by_key[key] for i, key in enumerate(plan.minimum_keys) if key in by_key}
    records = store.records(PairRecord, lists=False)
    passes = path_status(plan, losses, records, store.failures()).passes
    return [*saddles_to_refine(plan, losses, passes).values()]


def saddles_to_refine(
    plan: Plan, losses: Mapping[int, float], passes: Mapping[Pair, PairRecord]
) -> dict[Pair, RefineSaddle]:
    """The saddle tasks of a plan whose paths are complete, by pair.

    Args:
        plan: of the run, with the minima that were discovered.
        losses: of the minima.
        passes: the records of the best paths, by pair.
    """
    if not plan.refines_saddles:
        return {}
    return {
        pair: saddle_task(plan, pair, passes[pair].key) for pair in _chosen(plan, losses, passes)
    }


@dataclass(frozen=True)
class UnlistedEnd:
    """A minimum at the end of a descent from a saddle that the run does not have.

    Attributes:
        loss: there.
        saddle: key of the task that reached the saddle.
        number: of the descent among those of all its saddles.
    """

    loss: float
    saddle: str
    number: int


def unlisted_ends(
    saddles: Iterable[SaddleRecord], losses: Iterable[float]
) -> tuple[UnlistedEnd, ...]:
    """The ends of descents at which no minimum lies, the lowest first; ends of equal loss count once.

    Args:
        saddles: records of paths that were led over saddles.
        losses: of the minima.
    """
    ends = sorted(
        (loss, record.key, number)
        for record in saddles
        for number, (loss, minimum) in enumerate(zip(record.end_losses, record.ends, strict=True))
        if math.isfinite(loss) and not minimum
    )
    known, fresh = [*losses], list[UnlistedEnd]()
    for end in ends:
        if not any(math.isclose(end[0], other, rel_tol=SAME_LOSS) for other in known):
            known.append(end[0])
            fresh.append(UnlistedEnd(*end))
    return tuple(fresh)


def most_saddles(plan: Plan) -> int:
    """The largest number of saddle tasks of a plan: before its paths are complete no more is known."""
    if not plan.refines_saddles:
        return 0
    bars = max(0, len(plan.minima) - 1)
    return plan.pair_count if plan.run.saddles.refine == "all" else min(bars, plan.pair_count)


def saddle_task(plan: Plan, pair: Pair, path: str) -> RefineSaddle:
    """The task that leads the path of a pair over saddles.

    Args:
        plan: of the run.
        pair: of minima.
        path: key of their path.
    """
    i, j = pair
    keys = plan.minimum_keys
    others = tuple(key for number, key in enumerate(keys) if number not in pair)
    return RefineSaddle(
        plan.problem,
        i,
        j,
        path,
        keys[i],
        keys[j],
        others,
        plan.run.seed,
        plan.run.saddles.rounds,
    )


def _chosen(
    plan: Plan, losses: Mapping[int, float], passes: Mapping[Pair, PairRecord]
) -> Collection[Pair]:
    there = {pair: record for pair, record in passes.items() if losses.keys() >= {*pair}}
    if plan.run.saddles.refine == "all":
        return sorted(there)
    heights = {
        pair: max(record.height, *(losses[end] for end in pair)) for pair, record in there.items()
    }
    return sorted({bar.saddle for bar in barcode(losses, heights, "elder").bars if bar.saddle})
