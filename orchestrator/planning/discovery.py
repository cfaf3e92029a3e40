"""`minima: {discover: true}`: further minima, from descents from saddles or dips inside paths.

When all paths of a plan are finished, the deepest dips become minima of a larger plan: training starts at the
lowest point of the dip, and the pair rule chooses paths to the new minima. If the run refines saddles, the
new minima are instead the ends of descents from saddles that are no minimum of the run, the lowest first. The
peaks of the new paths are then followed to saddles in turn, until all descents end at minima of the run (the
kinetic transition network of the energy-landscape literature). The larger plan is a function of the records
alone, so every reader of the store computes the same one. The number of minima at most doubles.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from orchestrator.pair_rules.path_requests import Pair
from orchestrator.planning.path_status import path_status
from orchestrator.planning.plan import Plan
from orchestrator.planning.saddle_refinement import saddles_to_refine, unlisted_ends
from topo_core.homology.dense_barcodes import dense_barcode
from workers.storage.run_store import Store
from workers.storage.schema import MinimumRecord, PairRecord, SaddleRecord
from workers.tasks.minimum_tasks import DescendMinimum, SaddleMinimum


def discovered(plan: Plan, store: Store) -> Plan:
    """The plan, enlarged by the minima that are discovered from the records of the store.

    Args:
        plan: of the run; minima that it has already discovered are computed again.
        store: of the run.

    Returns:
        The plan itself if the run does not ask for discovery. The plan is enlarged step by step; a step needs
        all minima, paths and saddle tasks of the step before.
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
    """Tasks for new minima at the ends of descents from saddles, the lowest first."""
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
    """Tasks for new minima from dips deeper than `pairs.tolerance`, deepest first."""
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
