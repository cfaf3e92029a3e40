"""Chooses, from the results of all paths, those whose peaks are followed to saddles.

With `saddles.refine: bars` these are the paths at which bars of the elder barcode end, with `all` every path.
The choice depends on the heights before refinement. Refinement only lowers the chosen paths, so bars still
end at the same paths afterwards.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from orchestrator.pair_rules.path_requests import Pair
from orchestrator.planning.path_status import path_status
from orchestrator.planning.plan import Plan
from topo_core.homology.barcodes import barcode
from workers.storage.run_store import Store
from workers.storage.schema import MinimumRecord, PairRecord, SaddleRecord
from workers.tasks.saddle_tasks import RefineSaddle, are_equal_losses


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
    """The end of a descent from a saddle at which the run has no minimum.

    Attributes:
        loss: at the end of the descent.
        saddle: key of the task that found the saddle.
        number: position of the descent among all descents of that task.
    """

    loss: float
    saddle: str
    number: int


def unlisted_ends(
    saddles: Iterable[SaddleRecord], losses: Iterable[float]
) -> tuple[UnlistedEnd, ...]:
    """The ends of descents at which the run has no minimum, the lowest first; ends of equal loss count once.

    Args:
        saddles: records of the saddle tasks.
        losses: of the minima of the run.
    """
    ends = sorted(
        (loss, record.key, number, record.saddle_losses[number // 2])
        for record in saddles
        for number, (loss, minimum) in enumerate(zip(record.end_losses, record.ends, strict=True))
        if math.isfinite(loss) and not minimum
    )
    known, fresh = [*losses], list[UnlistedEnd]()
    for loss, key, number, saddle in ends:
        if not any(are_equal_losses(loss, other, saddle=saddle) for other in known):
            known.append(loss)
            fresh.append(UnlistedEnd(loss, key, number))
    return tuple(fresh)


def most_saddles(plan: Plan) -> int:
    """The largest number of saddle tasks of a plan; the exact number is known once its paths are complete."""
    if not plan.refines_saddles:
        return 0
    bars = max(0, len(plan.minima) - 1)
    return plan.pair_count if plan.run.saddles.refine == "all" else min(bars, plan.pair_count)


def saddle_task(plan: Plan, pair: Pair, path: str) -> RefineSaddle:
    """The task that leads the path of a pair over saddles.

    Args:
        plan: of the run.
        pair: the two minima.
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
