"""Computes a `Landscape` from the records of a store.

Only records are read, so a run can be reduced at any time and on any machine, also while it is running.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from orchestrator.analysis.landscape import FailedTask, Landscape
from orchestrator.analysis.refined_paths import peaks_of, saddles_of_paths, with_saddle_results
from orchestrator.analysis.symmetric_minima import classes_of_copies
from orchestrator.planning.discovery import discovered
from orchestrator.planning.path_status import path_status
from orchestrator.planning.plan import Plan
from orchestrator.planning.saddle_refinement import most_saddles, saddles_to_refine
from workers.storage.run_store import Store
from workers.storage.schema import MinimumRecord, PairRecord, SaddleRecord, SimplexRecord

PROFILES_UP_TO = 50_000
"""Largest number of pairs for which profiles and histories are read; those of more pairs would fill the
memory."""

NOT_FINITE = "not finite"
"""Kind of failure of a task whose record holds a loss or a height that is not a finite number."""


def reduce_run(plan: Plan, store: Store) -> Landscape:
    """Compute the landscape of a plan from the records in the store.

    Records of tasks that are not in the plan (of an earlier version of the run file) are ignored. A result
    that is not a finite number counts as a failed task: a minimum with such a loss is left out, and so is a
    path with such a height.

    Args:
        plan: of the run, without discovered minima; these are computed here.
        store: of the run.
    """
    plan = discovered(plan, store)
    expected = sum(plan.simplex_count(d) for d in plan.simplex_dimensions)
    minima, bad_minima = _minima(plan, store.records(MinimumRecord))
    recorded = _recorded_failures(store)
    losses = {index: record.loss for index, record in minima.items()}
    lists = plan.pair_count <= PROFILES_UP_TO
    records = store.records(PairRecord, lists=lists)
    bad_paths = {
        record.key: _not_finite(record.key, f"path {record.i}–{record.j}", height)
        for record in records
        if not math.isfinite(
            height := record.grid_height if plan.run.reduce.heights == "paper" else record.height
        )
    }
    usable = [record for record in records if record.key not in bad_paths]
    every = {**recorded, **bad_minima, **bad_paths}
    paths = path_status(plan, losses, usable, every)
    asked = {*plan.minimum_keys, *paths.failed, *(recorded if expected else ())}
    failures = {key: failure for key, failure in every.items() if key in asked}
    passes, complete = paths.passes, not paths.counts.open
    tasks = saddles_to_refine(plan, losses, passes) if complete else {}
    saddles = saddles_of_paths(plan, passes, store.records(SaddleRecord))
    failures |= {t.key: recorded[t.key] for t in tasks.values() if t.key in recorded}
    if plan.run.reduce.heights == "paper":
        passes = {pair: _on_the_grid(record) for pair, record in passes.items()}
    else:
        passes = {
            pair: with_saddle_results(record, saddles.get(pair)) for pair, record in passes.items()
        }
    return Landscape(
        run=plan.run.name,
        minima=minima,
        passes=passes,
        counts=paths.counts,
        minima_expected=len(plan.minima),
        simplices=_simplices(plan, store) if expected else {},
        simplices_expected=expected,
        max_index=plan.run.reduce.max_index,
        failures=tuple(failures.values()),
        damage=tuple(store.damage()),
        tolerance=plan.run.pairs.tolerance if plan.adaptive else 0.0,
        saddles=saddles,
        as_optimised={pair: paths.passes[pair] for pair in saddles},
        saddles_done=sum(pair in saddles for pair in tasks),
        saddles_expected=len(tasks) if complete else most_saddles(plan),
        peaks=peaks_of(plan, saddles),
        classes=lambda: classes_of_copies(plan, store, minima),
    )


def _on_the_grid(record: PairRecord) -> PairRecord:
    """The record with its height on the grid of the paper; between its points the loss is unknown."""
    return replace(record, height=record.grid_height, height_high=math.inf)


def _minima(
    plan: Plan, records: Iterable[MinimumRecord]
) -> tuple[dict[int, MinimumRecord], dict[str, FailedTask]]:
    """The records of the plan's minima by number, and by key a failure for each loss that is not finite."""
    number = {key: index for index, key in enumerate(plan.minimum_keys)}
    asked = {number[record.key]: record for record in records if record.key in number}
    finite = {index: record for index, record in asked.items() if math.isfinite(record.loss)}
    failed = {
        record.key: _not_finite(record.key, f"minimum {index}", record.loss)
        for index, record in asked.items()
        if index not in finite
    }
    return finite, failed


def _not_finite(key: str, what: str, value: float) -> FailedTask:
    return FailedTask(key, what, NOT_FINITE, f"its loss is {value}")


def _simplices(plan: Plan, store: Store) -> Mapping[tuple[int, ...], SimplexRecord]:
    vertices = {
        simplex.key: simplex.vertices
        for dimension in plan.simplex_dimensions
        for simplex in plan.simplices(dimension)
    }
    return {
        vertices[record.key]: record
        for record in store.records(SimplexRecord)
        if record.key in vertices
    }


def _recorded_failures(store: Store) -> dict[str, FailedTask]:
    """The failed tasks in a store, by key, including those of other plans."""
    return {
        key: FailedTask(key, failure["what"], failure["kind"], failure["reason"])
        for key, failure in store.failures().items()
    }
