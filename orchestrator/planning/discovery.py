"""`minima: {discover: true}`: further minima, below saddles or from dips of the loss inside finished paths.

When all paths of a plan are done, the deepest dips become minima of a larger plan: training starts at the
lowest point of the dip, and the new minima are joined with all others by the rule of the pairs. Where the run
leads paths over saddles, minima come from these instead: ends of descents that are no minimum of the run, the
lowest first. The new paths are led over saddles in turn, until all descents end at minima of the run (the
kinetic transition network of the energy-landscape literature). The larger plan is a function of the records
alone, so every reader of the store computes the same one. At most as many minima are added as there were
before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from orchestrator.pair_rules.orders import Pair
from orchestrator.planning.path_status import path_status
from orchestrator.planning.plan import Plan
from orchestrator.planning.saddle_refinement import saddles_to_refine, unlisted_ends
from topo_core.homology.dense_barcodes import dense_barcode
from workers.storage.run_store import Store
from workers.storage.schema import MinimumRecord, PairRecord, SaddleRecord
from workers.tasks.minimum_tasks import DescendMinimum, SaddleMinimum


def discovered(plan: Plan, store: Store) -> Plan:
    """The plan with the minima below its saddles and those that start from dips inside its paths.

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
    saddles = {record.key: record for record in store.records(SaddleRecord)}
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
        tasks = [*saddles_to_refine(plan, losses, paths.passes).values()]
        if any(task.key not in saddles and task.key not in failed for task in tasks):
            return plan
        reached = [saddles[task.key] for task in tasks if task.key in saddles]
        fresh: Sequence[DescendMinimum | SaddleMinimum] = (
            _ends(plan, losses, reached)
            if plan.refines_saddles
            else _dips(plan, losses, paths.passes)
        )[:left]
        if not fresh:
            return plan
        plan = replace(plan, discovered=(*plan.discovered, *fresh))
        left -= len(fresh)
    return plan


def _ends(
    plan: Plan, losses: Mapping[int, float], saddles: Sequence[SaddleRecord]
) -> Sequence[SaddleMinimum]:
    """New minima at ends of descents, the lowest first."""
    settings = replace(plan.run.minima.training, epochs=0)
    return [
        SaddleMinimum(
            plan.problem,
            settings,
            index=len(plan.minima) + place,
            saddle=end.saddle,
            end=end.number,
            seed=plan.run.seed,
        )
        for place, end in enumerate(unlisted_ends(saddles, losses.values()))
    ]


def _dips(
    plan: Plan, losses: Mapping[int, float], passes: Mapping[Pair, PairRecord]
) -> Sequence[DescendMinimum]:
    """New minima from the dips that are deeper than the tolerance of the pairs, deepest first."""
    profiles = {pair: (record.positions, record.losses) for pair, record in passes.items()}
    known = {
        (task.path, task.position) for task in plan.discovered if isinstance(task, DescendMinimum)
    }
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
