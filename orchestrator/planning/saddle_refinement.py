"""The paths whose peaks are followed to saddles once all paths are complete: a pure function of the results.

`bars` follows the peaks of paths that hold up a bar of the elder barcode, `all` those of all paths.
"""

from collections.abc import Collection, Mapping

from orchestrator.pair_rules.orders import Pair
from orchestrator.planning.path_status import path_status
from orchestrator.planning.plan import Plan
from topo_core.homology.barcodes import barcode
from workers.storage.run_store import Store
from workers.storage.schema import MinimumRecord, PairRecord
from workers.tasks.saddle_tasks import RefineSaddle


def saddles_to_refine(plan: Plan, store: Store) -> list[RefineSaddle]:
    """The saddle tasks of a plan whose paths are complete, in the order of the pairs.

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
    return [saddle_task(plan, pair, passes[pair].key) for pair in _chosen(plan, losses, passes)]


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
    return RefineSaddle(plan.problem, i, j, path, keys[i], keys[j], others, plan.run.seed)


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
