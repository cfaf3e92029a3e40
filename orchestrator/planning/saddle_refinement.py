"""The paths that are led over saddles once all paths are complete: a pure function of the results.

`bars` chooses the paths at which bars of the elder barcode end, `all` every path. The choice goes by the
heights before: leading a path over saddles only lowers it, and bars then still end at the same paths.
"""

from collections.abc import Collection, Mapping

from orchestrator.pair_rules.orders import Pair
from orchestrator.planning.path_status import path_status
from orchestrator.planning.plan import Plan
from topo_core.homology.barcodes import barcode
from workers.storage.run_store import Store
from workers.storage.schema import MinimumRecord, PairRecord
from workers.tasks.saddle_tasks import RefineSaddle


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


def most_saddles(plan: Plan) -> int:
    """The largest number of saddle tasks of a plan: before its paths are complete no more is known."""
    if not plan.refines_saddles:
        return 0
    bars = max(0, len(plan.minima) - 1)
    return plan.pair_count if plan.run.saddles.refine == "all" else min(bars, plan.pair_count)


def saddle_task(plan: Plan, pair: Pair, path: str) -> RefineSaddle:
    """The task that follows the peak of the path of a pair.

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
