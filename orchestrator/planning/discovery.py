"""`minima: {discover: true}`: further minima, from dips of the loss inside finished paths.

When all paths of a plan are done, the deepest dips become minima of a larger plan: training starts at the
lowest point of the dip, and the new minima are joined with all others by the rule of the pairs. The larger
plan is a function of the records alone, so every reader of the store computes the same one. At most as many
minima are added as there were before.
"""

from collections.abc import Mapping
from dataclasses import replace

from orchestrator.pair_rules.orders import Pair
from orchestrator.planning.path_status import path_status
from orchestrator.planning.plan import Plan
from topo_core.homology.dense_barcodes import dense_barcode
from workers.storage.run_store import Store
from workers.storage.schema import MinimumRecord, PairRecord
from workers.tasks.minimum_tasks import DescendMinimum


def discovered(plan: Plan, store: Store) -> Plan:
    """The plan with the minima that start from dips inside its finished paths.

    Args:
        plan: of the run; minima that were discovered before are discovered again.
        store: of the run.
    """
    if not plan.run.minima.discover:
        return plan
    plan = replace(plan, discovered=())
    left = len(plan.minima)
    failed = store.failures()
    losses_by_key = {record.key: record.loss for record in store.records(MinimumRecord)}
    records = store.records(PairRecord)
    while left:
        losses = {
            number: losses_by_key[key]
            for number, key in enumerate(plan.minimum_keys)
            if key in losses_by_key
        }
        missing = [k for k in plan.minimum_keys if k not in losses_by_key and k not in failed]
        paths = path_status(plan, losses, records, failed)
        if missing or paths.counts.open:
            return plan
        deepest = _dips(plan, losses, paths.passes)[:left]
        if not deepest:
            return plan
        plan = replace(plan, discovered=(*plan.discovered, *deepest))
        left -= len(deepest)
    return plan


def _dips(
    plan: Plan, losses: Mapping[int, float], passes: Mapping[Pair, PairRecord]
) -> list[DescendMinimum]:
    """New minima from the dips that are deeper than the tolerance of the pairs, deepest first."""
    profiles = {pair: (record.positions, record.losses) for pair, record in passes.items()}
    known = {(task.path, task.position) for task in plan.discovered}
    dips = dense_barcode(losses, profiles, least=plan.run.pairs.tolerance).dips
    fresh = [
        (passes[dip.pair], dip.position)
        for dip in dips
        if (passes[dip.pair].key, dip.position) not in known
    ]
    return [
        DescendMinimum(
            plan.problem,
            plan.run.minima.training,
            index=len(plan.minima) + number,
            path=record.key,
            position=position,
            seed=plan.run.seed,
        )
        for number, (record, position) in enumerate(fresh)
    ]
